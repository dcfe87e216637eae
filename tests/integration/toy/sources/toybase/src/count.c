#include "toybase/toybase.h"

int count(void)
{
    return 42;
}
