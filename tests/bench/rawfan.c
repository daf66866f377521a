// rawfan: the physical limit of SSE fan-out on this machine: accept connections, answer 200,
// then write one event to every connection RATE times a second, with bare write(2) calls.
// usage: RAWFAN_READY=FILE rawfan PORT RATE SECONDS   (starts when FILE exists; prints CPU us a delivery)
// RAWFAN_PAD=N: N bytes more in each event's message, so that events are as large as another server's.
// build: cc -O2 -o rawfan rawfan.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
static uint64_t now(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static double cpu(void) { struct rusage r; getrusage(RUSAGE_SELF, &r); return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6; }
int main(int c, char **v) {
  int port = atoi(v[1]); double rate = atof(v[2]), secs = atof(v[3]);
  struct rlimit rl; getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl);
  if (!getenv("RAWFAN_READY")) return 2;
  int l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1; setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(l, (void *)&a, sizeof a) || listen(l, 4096)) return 1;
  int *fd = malloc(4 * 200000), n = 0; uint64_t start = 0, next = 0, sent = 0; double c0 = 0; uint64_t id = 0; char req[4096], ev[16384], pad[8192] = {0};
  int padding = getenv("RAWFAN_PAD") ? atoi(getenv("RAWFAN_PAD")) : 0; if (padding < 0 || padding > 8191) return 2;
  memset(pad, '.', padding);
  for (;;) {
    int s; while ((s = accept4(l, 0, 0, 0)) >= 0) { if (read(s, req, sizeof req) < 0) ; const char *h = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: ok\n\n"; if (write(s, h, strlen(h)) < 0) ; fcntl(s, F_SETFL, O_NONBLOCK); fd[n++] = s; }
    if (access(getenv("RAWFAN_READY"), F_OK)) { usleep(200); continue; }
    if (!start) { start = next = now(); c0 = cpu(); }
    if (now() - start > secs * 1e9) break;
    if (now() < next) { usleep((next - now()) / 1000); continue; }
    next += 1e9 / rate;
    int len = snprintf(ev, sizeof ev, "id: %lu-0\nevent: progress\ndata: {\"job\":\"0\",\"state\":\"running\",\"progress\":0.5123,\"current\":5123,\"total\":10000,\"message\":\"encoding%s\",\"t\":%lu}\n\n", 1700000000000 + id++, pad, now());
    for (int i = 0; i < n; i++) if (write(fd[i], ev, len) == len) sent++;
  }
  printf("rawfan: %lu deliveries, %.2f CPU us each, %.0f/s\n", sent, (cpu() - c0) / sent * 1e6, sent / secs);
}
