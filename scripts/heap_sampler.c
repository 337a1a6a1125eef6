// The live heap of a running program of glibc, every SECONDS: what was allocated and not freed, also where the process keeps
// the memory that was freed. A line is the time in seconds and the size in bytes.
//
//     cc -O2 -shared -fPIC -pthread -o heap_sampler.so heap_sampler.c
//     HEAP_SAMPLES=FILE LD_PRELOAD=./heap_sampler.so PROGRAM
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SECONDS = 5 };

// The size in the first element that begins like this; 0 if there is none.
static long size_of(const char *xml, const char *element) {
    const char *at = strstr(xml, element);
    const char *size = at ? strstr(at, "size=\"") : NULL;
    return size ? atol(size + strlen("size=\"")) : 0;
}

// mallinfo2 knows one arena, and each thread has its own: malloc_info has the sums, behind the last arena.
static long live_bytes(void) {
    char *xml = NULL;
    size_t xml_size = 0;
    FILE *stream = open_memstream(&xml, &xml_size);
    if (stream == NULL) return -1;
    malloc_info(0, stream);
    fclose(stream);
    const char *sums = xml;
    for (const char *next; (next = strstr(sums, "</heap>")) != NULL;) sums = next + 1;
    long live = size_of(sums, "<system type=\"current\"") - size_of(sums, "<total type=\"fast\"")
              - size_of(sums, "<total type=\"rest\"") + size_of(sums, "<total type=\"mmap\"");
    free(xml);
    return live;
}

static void *sample(void *path) {
    for (;;) {
        long live = live_bytes();
        FILE *file = fopen(path, "a");
        if (file != NULL) {
            fprintf(file, "%ld %ld\n", (long)time(NULL), live);
            fclose(file);
        }
        sleep(SECONDS);
    }
    return NULL;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HEAP_SAMPLES");
    if (path == NULL) return;
    // Signals are for the program's threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    pthread_create(&thread, NULL, sample, (void *)path);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
