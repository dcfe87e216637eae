#include "toybase/toybase.h"

#include <stdio.h>

int greet(const char *greeting)
{
    return printf("%s from toybase %s\n", greeting, version());
}
