// The other object: throws what main.cpp catches.
// cxx.h comes first, by the command line.

static Loud global("global of the part");

Loud::Loud(std::string name) : name(std::move(name)) { std::cout << "hello, " << this->name << std::endl; }
Loud::~Loud() { std::cout << "bye, " << name << std::endl; }

namespace {
struct Square final : Shape {
    double side;
    explicit Square(double side) : side(side) {}
    double area() const override { return side * side; }
};
struct Disc final : Shape {
    double radius;
    explicit Disc(double radius) : radius(radius) {}
    double area() const override { return 3.25 * radius * radius; }
};
}

std::unique_ptr<Shape> shape(const std::string &kind, double size) {
    if (kind == "square") return std::make_unique<Square>(size);
    if (kind == "disc") return std::make_unique<Disc>(size);
    throw std::invalid_argument("no shape is called " + kind);
}

int refuse(int depth) {
    Loud here("frame " + std::to_string(depth));
    Counted<int> counted;
    if (depth == 0) throw Refused("at the bottom", Counted<int>::alive);
    return refuse(depth - 1) + 1;
}

void rethrow() {
    try {
        refuse(1);
    } catch (const Refused &refused) {
        std::cout << "on the way: " << refused.what() << std::endl;
        throw;
    }
}

int count_alive() { return Counted<int>::alive + only_one().name.size(); }

int through(int (*callback)(int), int n) {
    Loud here("between two callers");
    return callback(n);
}
