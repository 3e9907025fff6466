// Threads that stand in native stacks of many shapes, for scripts/check-native.
// g++ -O2 -fomit-frame-pointer -pthread -o native native.cpp; ./native & gcore -o native $!
#include <alloca.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdexcept>
#include <string>
#include <sys/epoll.h>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static volatile int zero, done;

__attribute__((noinline)) static void stop() { while (!done) pause(); }
__attribute__((noinline)) static int deep(int n) { int r = n == 0 ? (stop(), 1) : deep(n - 1); return r + (int)(r > n); }
__attribute__((noinline)) static long moved(int n) {
  char *room = (char *)alloca(n * 100 + 7);
  memset(room, n, n * 100);
  if (n == 0) stop();
  return moved(n - 1) + room[n];
}
__attribute__((noinline)) static int wide(const char *s) { char big[200000]; strcpy(big, s); stop(); return big[3]; }
__attribute__((noinline)) static int sorted(const void *, const void *) { stop(); return 0; }
__attribute__((noinline)) static void callback() { int a[4] = {3, 1, 2, 0}; qsort(a, 4, sizeof *a, sorted); printf("%d", a[0]); }
__attribute__((noinline)) static void thrown(int n) { if (n == 0) throw std::runtime_error("thrown"); thrown(n - 1); zero = n; }
__attribute__((noinline)) static void caught() { try { thrown(5); } catch (const std::exception &e) { std::string s = e.what(); stop(); printf("%s", s.c_str()); } }
struct Guard { ~Guard() { stop(); } };
__attribute__((noinline)) static void unwinding() { try { Guard g; thrown(3); } catch (...) { zero = 1; } }
static void handler(int, siginfo_t *, void *) { stop(); }
__attribute__((noinline)) static void faulting() { *(volatile int *)(long)(8 + zero) = 1; zero = 3; }
__attribute__((noinline)) static void sending() { raise(SIGUSR1); zero = 4; }
__attribute__((noinline)) static int spins() { volatile unsigned x = 1; while (x) x = x * 3 + 1 | 1; return (int)x; }
__attribute__((noinline)) static int many(long a, long b, long c, long d, long e, long f, long g, double h) {
  if (a == 0) stop();
  return many(a - 1, b + 1, c, d, e, f, g, h * 2) + (int)(b + c + d + e + f + g + h);
}
struct Base { virtual int go(int) = 0; virtual ~Base() {} };
struct One : Base { int go(int n) override { std::function<int(int)> f = [this](int m) { return m > 0 ? go(m - 1) : (stop(), 1); }; return f(n) + 1; } };

int main() {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = handler;
  a.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &a, nullptr);
  sigaction(SIGUSR1, &a, nullptr);
  pthread_mutex_lock(&held);
  std::vector<std::function<void()>> shapes = {
      [] { deep(40); }, [] { moved(12); }, [] { wide("wide"); }, [] { callback(); }, [] { caught(); }, [] { unwinding(); },
      [] { faulting(); }, [] { sending(); }, [] { spins(); }, [] { many(9, 1, 2, 3, 4, 5, 6, 0.5); }, [] { One o; o.go(6); },
      [] { pthread_mutex_lock(&held); }, [] { pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; pthread_mutex_lock(&m); pthread_cond_wait(&never, &m); },
      [] { sem_t s; sem_init(&s, 0, 0); sem_wait(&s); }, [] { timespec t = {100000, 0}; nanosleep(&t, nullptr); },
      [] { poll(nullptr, 0, -1); }, [] { int e = epoll_create1(0); epoll_event ev; epoll_wait(e, &ev, 1, -1); },
      [] { char c; int p[2]; if (pipe(p) == 0 && read(p[0], &c, 1) == 1) zero = 2; }, [] { std::thread t(stop); t.join(); },
      [] { if (system("sleep 1000") != 0) zero = 5; },
  };
  std::vector<std::thread> threads;
  for (auto &s : shapes) threads.emplace_back(s);
  for (auto &t : threads) t.join();
  return 0;
}
