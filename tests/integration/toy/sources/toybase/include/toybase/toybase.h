#ifndef TOYBASE_H
#define TOYBASE_H

#ifdef __cplusplus
extern "C" {
#endif

int greet(const char *greeting);
int count(void);
const char *version(void);

#ifdef __cplusplus
}
#endif

#endif
