/* The clock of a server that preloads this is wrong by as many seconds as a file says, from one moment to the
 * next, and durations are right. libfaketime does it for Python; Redis does not start with it, whose allocator
 * asks for the time before libfaketime is ready. Without headers, for a compiler that has none. */

struct moment { long seconds, fraction; };

long syscall(long number, ...);
char *getenv(const char *name);
int open(const char *path, int flags, ...);
int close(int file);
void *mmap(void *at, unsigned long length, int protection, int flags, int file, long offset);

#ifdef __aarch64__
#define SYS_CLOCK_GETTIME 113
#else
#define SYS_CLOCK_GETTIME 228
#endif
#define CLOCK_REALTIME 0
#define CLOCK_REALTIME_COARSE 5
#define READ_ONLY 0
#define PROT_READ 1
#define MAP_SHARED 1

static const volatile long *wrong_by;

__attribute__((constructor)) static void prepare(void)
{
    const char *path = getenv("WRONG_CLOCK");
    int file = path ? open(path, READ_ONLY) : -1;
    void *found = file < 0 ? (void *)-1 : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (found != (void *)-1)
        wrong_by = found;
    if (file >= 0)
        close(file);
}

int clock_gettime(int clock, struct moment *now)
{
    int result = (int)syscall(SYS_CLOCK_GETTIME, (long)clock, now);
    if (!result && wrong_by && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->seconds += *wrong_by;
    return result;
}

int gettimeofday(struct moment *now, void *zone)
{
    int result = clock_gettime(CLOCK_REALTIME, now);
    (void)zone;
    now->fraction /= 1000;
    return result;
}

long time(long *seconds)
{
    struct moment now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds)
        *seconds = now.seconds;
    return now.seconds;
}
