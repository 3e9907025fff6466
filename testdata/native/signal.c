// A fault, a handler on a stack of its own that says what it was given, and abort: a core as the kernel writes it.
// gcc -O1 -g0 -static -fno-omit-frame-pointer -Wl,--eh-frame-hdr -o signal signal.c; (echo 0x7f > /proc/self/coredump_filter; ulimit -c unlimited; ./signal)
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <ucontext.h>
#include <stdlib.h>
static volatile struct { char mark[16]; uint64_t record, info, rip, rsp, rbp; } said = { "CLRSCOPE-SIGNAL" };
static char alternate[1 << 16];
static void handler(int n, siginfo_t *i, void *u) {
  ucontext_t *c = u;
  said.record = (uint64_t)u; said.info = (uint64_t)i; said.rip = c->uc_mcontext.gregs[REG_RIP];
  said.rsp = c->uc_mcontext.gregs[REG_RSP]; said.rbp = c->uc_mcontext.gregs[REG_RBP];
  abort();
}
__attribute__((noinline)) static int fault(volatile int *p, int n) { int r = *p + n; __asm__ volatile("" ::: "memory"); return r + 1; }
__attribute__((noinline)) static int middle(volatile int *p, int n) { int r = fault(p, n + 1); __asm__ volatile("" ::: "memory"); return r * 3; }
int main(int argc, char **argv) {
  stack_t s = { .ss_sp = alternate, .ss_size = sizeof alternate };
  sigaltstack(&s, 0);
  struct sigaction a; memset(&a, 0, sizeof a); a.sa_sigaction = handler; a.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &a, 0);
  return middle((int *)(uintptr_t)0x10, argc);
}
