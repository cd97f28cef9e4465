// Exceptions within loaded code, out of it and through it, run-time types, static objects, and iostream.
// cxx.h comes first, by the command line.

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <sstream>
#include <thread>

static Loud global("global of main");

static int throws(int n) {
    if (n > 2) throw n;
    return n;
}

static void sort_with_a_comparison_that_throws() {
    std::vector<int> numbers(50);
    std::iota(numbers.begin(), numbers.end(), 0);
    try { // Through std::sort, and through qsort of the C library.
        std::sort(numbers.begin(), numbers.end(), [](int a, int b) { return a == 40 ? throw std::string("40") : b < a; });
    } catch (const std::string &text) {
        std::cout << "sort: " << text << std::endl;
    }
}

int main(int count, char **arguments) {
    std::cout << "main " << arguments[count - 1] << std::endl;
    for (std::string kind : {"square", "disc", "cube"}) {
        try {
            auto made = shape(kind, 2);
            std::cout << kind << ' ' << made->area() << ' ' << (dynamic_cast<Shape *>(made.get()) != nullptr) << std::endl;
        } catch (const std::logic_error &error) {
            std::cout << typeid(error).name() << ": " << error.what() << std::endl;
        }
    }
    try {
        rethrow();
    } catch (const std::exception &error) {
        auto *refused = dynamic_cast<const Refused *>(&error);
        std::cout << error.what() << ' ' << (refused ? refused->code : -1) << ' ' << count_alive() << std::endl;
    }
    try {
        through(throws, 3);
    } catch (int n) {
        std::cout << "caught " << n << ", " << through(throws, 2) << std::endl;
    }
    try {
        std::stoi("not a number"); // Thrown by the C++ library.
    } catch (const std::invalid_argument &error) {
        std::cout << "stoi: " << error.what() << std::endl;
    }
    sort_with_a_comparison_that_throws();
    std::cout << &only_one() - &only_one() << ' ' << only_one().name << std::endl;
    std::map<std::string, int> words;
    std::istringstream text("to be or not to be");
    for (std::string word; text >> word;) ++words[word];
    for (auto &[word, times] : words) std::cout << word << '=' << times << ' ';
    std::cout << std::endl;
    int result = 0;
    std::thread([&] {
        try {
            refuse(2);
        } catch (const Refused &refused) {
            result = refused.code;
        }
    }).join();
    std::cout << "in a thread: " << result << ' ' << Counted<int>::alive << std::endl;
    return 3;
}
