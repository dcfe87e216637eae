void launch(const char *gpu);

void launch_all(void)
{
    launch("gfx900");
    launch("gfx1030");
}
