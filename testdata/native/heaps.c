// A program whose native blocks are known: it writes its own list of what is allocated and what the C library counts,
// stops, and is dumped. Build: gcc -O1 -pthread heaps.c -o heaps
// Run: heaps LIST STATS THREADS BLOCKS OPTIONS; then gcore, or a kernel core (option k: it aborts).
// Options: b somebody else moves the break, m the break is blocked by a mapping, l large blocks, a aligned ones,
//          k abort, x threads end before the dump, c caches are filled to their limits, w threads go on allocating and
//          freeing, so that the dump is taken inside malloc: what the list has stays as it is.
// LIST: address and usable size of each live block, a line each. STATS: mallinfo2 and, behind it, malloc_info.
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined __GLIBC__ && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
#pragma weak mallinfo2
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define MOST (1 << 18)
static void **list;
static size_t *wanted;
static size_t used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t ready;
static const char *options = "";
static long blocks;

static int has(char c) { return strchr(options, c) != 0; }

static void keep(void *p, size_t size) {
    pthread_mutex_lock(&lock);
    if (used < MOST) {
        wanted[used] = size;
        list[used++] = p;
    }
    pthread_mutex_unlock(&lock);
}

static uint64_t next(uint64_t *s) {
    *s = *s * 6364136223846793005ULL + 1442695040888963407ULL;
    return *s >> 33;
}

static void work(uint64_t seed) {
    void *gone[4096];
    size_t ends = 0;
    for (long i = 0; i < blocks; i++) {
        uint64_t r = next(&seed);
        size_t size = r % 100 < 70 ? 1 + next(&seed) % 200 : r % 100 < 95 ? next(&seed) % 3000 : next(&seed) % 40000;
        void *p = has('a') && r % 13 == 0 ? memalign(16u << (r % 9), size) : malloc(size);
        memset(p, (int)(r & 0x7f), size);
        if (r % 3 == 0 && ends < 4096)
            gone[ends++] = p;
        else
            keep(p, size);
        if (r % 7 == 0 && ends > 2) {
            size_t at = next(&seed) % ends;
            free(gone[at]);
            gone[at] = gone[--ends];
        }
    }
    while (ends > 0) free(gone[--ends]);
    if (has('c')) {
        for (size_t size = 16; size < 1040; size += 16) {
            void *fill[9];
            for (int i = 0; i < 9; i++) fill[i] = malloc(size);
            for (int i = 0; i < 9; i++) free(fill[i]);
        }
    }
}

// Allocates and frees for ever.
static void churn(uint64_t seed) {
    static void *volatile shared[64];
    for (;;) {
        size_t at = next(&seed) % 64, size = next(&seed) % 5 ? next(&seed) % 400 : next(&seed) % 50000;
        char *p = malloc(size + 1);
        *p = 1;
        free(__atomic_exchange_n(&shared[at], p, __ATOMIC_RELAXED));
    }
}

static void *thread(void *arg) {
    work((uintptr_t)arg);
    pthread_barrier_wait(&ready);
    if (has('w')) churn((uintptr_t)arg);
    if (!has('x')) pause();
    return 0;
}

static char line[256];
static void say(int fd, int n) { if (write(fd, line, (size_t)n) != n) _exit(3); }

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    long threads = atol(argv[3]);
    blocks = atol(argv[4]);
    options = argv[5];
    list = mmap(0, MOST * sizeof *list, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    wanted = mmap(0, MOST * sizeof *wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_barrier_init(&ready, 0, (unsigned)threads + 1);
    pthread_t ids[256];
    for (long i = 0; i < threads && i < 256; i++) pthread_create(&ids[i], 0, thread, (void *)(i + 1));
    for (int round = 0; round < 3; round++) {
        work(1000 + (uint64_t)round);
        if (has('b')) {
            char *other = sbrk(5000 + 16 * round);
            memset(other, 0x21, 4000);
        }
        if (has('m')) {
            char *end = (char *)(((uintptr_t)sbrk(0) + 4095) & ~(uintptr_t)4095);
            mmap(end, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        }
    }
    if (has('l'))
        for (size_t i = 0; i < 6; i++) {
            size_t size = (200 << 10) + (i << 20) + i * 100;
            void *p = has('a') && i % 2 ? memalign(64u << (3 * i), size) : malloc(size);
            memset(p, 1, size);
            keep(p, size);
        }
    int out = open(argv[1], O_CREAT | O_TRUNC | O_WRONLY, 0644);
    FILE *stats = fopen(argv[2], "w");
    static char buffer[1 << 16];
    setvbuf(stats, buffer, _IOFBF, sizeof buffer);
    keep(stats, 0);
    pthread_barrier_wait(&ready);
    if (has('x'))
        for (long i = 0; i < threads && i < 256; i++) pthread_join(ids[i], 0);
    usleep(200000);
#ifdef __GLIBC__
    malloc_info(0, stats);
#endif
    fflush(stats);
#if __GLIBC__ > 2 || __GLIBC_MINOR__ >= 33
    struct mallinfo2 m = {0};
    // The program may run with an older library than it was built with.
    if (&mallinfo2) m = mallinfo2();
    if (&mallinfo2) say(out, snprintf(line, sizeof line, "mallinfo2 %zu %zu %zu %zu %zu %zu %zu %zu %zu\n", m.arena, m.ordblks, m.smblks,
                      m.hblks, m.hblkhd, m.fsmblks, m.uordblks, m.fordblks, m.keepcost));
#endif
    for (size_t i = 0; i < used; i++)
        say(out, snprintf(line, sizeof line, "%lx %zu %zu\n", (unsigned long)list[i], malloc_usable_size(list[i]), wanted[i]));
    close(out);
    if (has('k')) abort();
    if (write(1, "ready\n", 6) != 6) return 3;
    pause();
}
