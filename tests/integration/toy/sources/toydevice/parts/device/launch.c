#include <stdio.h>

void launch(const char *gpu)
{
    printf("launch for %s\n", gpu);
}
