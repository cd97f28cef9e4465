// What the two objects of the C++ program share.
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct Loud {
    explicit Loud(std::string name);
    ~Loud();
    std::string name;
};

struct Shape {
    virtual ~Shape() = default;
    virtual double area() const = 0;
};

struct Refused : std::runtime_error {
    Refused(const std::string &why, int code) : std::runtime_error(why), code(code) {}
    int code;
};

template <typename T> struct Counted {
    static int alive; // One for the program, defined in both objects.
    Counted() { ++alive; }
    Counted(const Counted &) { ++alive; }
    ~Counted() { --alive; }
};
template <typename T> int Counted<T>::alive = 0;

inline Loud &only_one() {
    static Loud loud("made when first asked for"); // Guarded, and one for the program.
    return loud;
}

std::unique_ptr<Shape> shape(const std::string &kind, double size);
int refuse(int depth);
void rethrow();
int count_alive();
int through(int (*callback)(int), int n);
