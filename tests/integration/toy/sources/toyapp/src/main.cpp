#include <toybase/toybase.h>

#include <cstdio>

int main(int argc, char **)
{
    if (argc > 1) {
        std::puts(__FILE__);
    }
    old_name_of_greet(GREETING);
    return count() == 42 ? 0 : 1;
}
