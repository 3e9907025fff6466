// A program with as many blocks as one asks for, linked in a tree that a global variable holds, some of them freed again.
// Build: cc -O1 many.c -o many. Run: many BLOCKS; then gcore.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void **root;

int main(int argc, char **argv) {
    size_t blocks = argc > 1 ? strtoull(argv[1], 0, 10) : 1000;
    void ***all = mmap(0, (blocks + 1) * sizeof *all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return 2;
    uint64_t seed = 1;
    for (size_t i = 1; i <= blocks; i++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        size_t size = 24 + (seed >> 33) % 160;
        if (!(all[i] = malloc(size))) return 3;
        memset(all[i], 0, size);
        if (i > 1) all[i / 2][i % 2] = all[i];
        if (i % 4 == 0) {
            void *volatile gone = malloc(24 + (seed >> 50) % 1600);
            void *fence = malloc(24);
            free(gone);
            memset(fence, 0, 24);
            all[i][2] = fence;
        }
    }
    root = all[1];
    munmap(all, (blocks + 1) * sizeof *all);
    if (write(1, "ready\n", 6) != 6) return 4;
    pause();
}
