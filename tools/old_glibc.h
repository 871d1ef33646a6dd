/* Before every source of a wheel for Linux (tools/wheels.py): functions that glibc 2.34 moved from
 * one of its libraries to another are asked for under the version that all glibcs have. */
#include <features.h>
#if defined(__x86_64__) && __GLIBC_PREREQ(2, 34)
__asm__(".symver pthread_once,pthread_once@GLIBC_2.2.5");
__asm__(".symver pthread_key_create,pthread_key_create@GLIBC_2.2.5");
__asm__(".symver pthread_setspecific,pthread_setspecific@GLIBC_2.2.5");
#elif defined(__aarch64__) && __GLIBC_PREREQ(2, 34)
__asm__(".symver pthread_once,pthread_once@GLIBC_2.17");
__asm__(".symver pthread_key_create,pthread_key_create@GLIBC_2.17");
__asm__(".symver pthread_setspecific,pthread_setspecific@GLIBC_2.17");
#endif
