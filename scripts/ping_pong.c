// How far apart two CPUs are at this moment: ns for a cache line from one to the other, and how fast each of them computes.
// The host of a virtual machine moves its CPUs every few seconds, which alone changes the cost of a wake-up by up to two:
// runs during which these figures change cannot be compared.
//
//     cc -O2 -pthread -o ping_pong ping_pong.c && ./ping_pong 0 1
//
// Prints `one_way_ns N core_ns N N`. The fastest of many batches counts, since other programs on these CPUs make some slower.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCHES 41
#define ROUND_TRIPS 2500
// Multiplications and additions, each of which needs the one before.
#define STEPS 1000000

static _Alignas(128) atomic_long ball;
static _Alignas(128) double one_way_ns[BATCHES];
static double core_ns[2][BATCHES];
static int cpus[2];

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void *player(void *argument) {
    long me = (long)argument, turn = me;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpus[me], &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        perror("sched_setaffinity");
        exit(1);
    }
    for (int batch = 0; batch < BATCHES; batch++) {
        double began = now_ns();
        for (int i = 0; i < ROUND_TRIPS; i++, turn += 2) {
            while (atomic_load_explicit(&ball, memory_order_acquire) != turn) relax();
            atomic_store_explicit(&ball, turn + 1, memory_order_release);
        }
        if (me == 1) one_way_ns[batch] = (now_ns() - began) / ROUND_TRIPS / 2;
    }
    unsigned long h = (unsigned long)me + 1;
    for (int batch = 0; batch < BATCHES; batch++) {
        double began = now_ns();
        for (int i = 0; i < STEPS; i++) h = h * 6364136223846793005ul + 1442695040888963407ul;
        core_ns[me][batch] = (now_ns() - began) / STEPS;
    }
    volatile unsigned long sink = h;
    (void)sink;
    return NULL;
}

static double least(const double *batches) {
    double found = batches[0];
    for (int i = 1; i < BATCHES; i++)
        if (batches[i] < found) found = batches[i];
    return found;
}

int main(int count, char **words) {
    pthread_t threads[2];
    if (count != 3) {
        fprintf(stderr, "Usage: ping_pong CPU CPU\n");
        return 2;
    }
    for (long i = 0; i < 2; i++) cpus[i] = atoi(words[i + 1]);
    for (long i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, player, (void *)i) != 0) return 1;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    printf("one_way_ns %.1f core_ns %.3f %.3f\n", least(one_way_ns), least(core_ns[0]), least(core_ns[1]));
    return 0;
}
