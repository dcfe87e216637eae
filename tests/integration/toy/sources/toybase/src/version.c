#include "toybase/toybase.h"

const char *version(void)
{
    return TOYBASE_VERSION;
}
