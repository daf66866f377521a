// sseload: hold N Server-Sent Events connections and measure what arrives.
// usage: sseload HOST PORT PATH CONNS SECONDS [HEADER...]
// PATH may contain %d, replaced by the connection's number modulo MOD (env SSELOAD_MOD).
// Each event whose data holds the mark (env SSELOAD_MARK, default "t":) and then NANOSECONDS (CLOCK_REALTIME)
// is counted and contributes a latency sample.
// Prints one line of JSON when SECONDS have passed after the last connection opened.
// SSELOAD_READY=FILE: make FILE when all are open (start publishing then). SSELOAD_WINDOW: connections
// opening at once (128). Local addresses 127.0.0.1, .2, ... are used in turn, 20,000 ports each.
// build: cc -O2 -o sseload sseload.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CARRY = 64 };
struct conn { int fd; int state; uint64_t events; char nl; char tail[CARRY]; int tail_len; };
static uint64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static uint64_t *lat; static size_t nlat, caplat;
static void sample(uint64_t v) { if (nlat == caplat) { caplat = caplat ? caplat * 2 : 1 << 20; lat = realloc(lat, caplat * 8); } lat[nlat++] = v; }
static int cmp(const void *a, const void *b) { uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b; return x < y ? -1 : x > y; }

int main(int argc, char **argv) {
  if (argc < 6) { fprintf(stderr, "usage: sseload HOST PORT PATH CONNS SECONDS [HEADER...]\n"); return 2; }
  const char *host = argv[1], *path = argv[3]; int port = atoi(argv[2]), n = atoi(argv[4]); double secs = atof(argv[5]);
  const char *mark = getenv("SSELOAD_MARK") ? getenv("SSELOAD_MARK") : "\"t\":"; size_t marklen = strlen(mark);
  int mod = getenv("SSELOAD_MOD") ? atoi(getenv("SSELOAD_MOD")) : 1;
  int window = getenv("SSELOAD_WINDOW") ? atoi(getenv("SSELOAD_WINDOW")) : 128;
  struct rlimit rl; getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl);
  struct conn *c = calloc(n, sizeof *c); int ep = epoll_create1(0);
  uint64_t t0 = now_ns(), t_open = 0, t_end = 0, events = 0, bytes = 0, by0 = 0; int opened = 0, started = 0, pending = 0, failed = 0, closed = 0;
  char *buf = malloc(1 << 18); uint64_t ev0 = 0; struct epoll_event evs[1024];
  while (1) {
    while (started < n && pending < window) {
      struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)}; inet_pton(AF_INET, host, &a.sin_addr);
      int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      struct sockaddr_in l = {.sin_family = AF_INET}; l.sin_addr.s_addr = htonl(0x7f000001u + (started / 20000)); int yes = 1;
      setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes); bind(fd, (void *)&l, sizeof l);
      if (fd < 0 || (connect(fd, (void *)&a, sizeof a) && errno != EINPROGRESS)) { failed++; started++; if (fd >= 0) close(fd); continue; }
      int one = 1; setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      c[started].fd = fd; struct epoll_event e = {.events = EPOLLOUT | EPOLLIN, .data.u32 = started}; epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e); started++; pending++;
    }
    int k = epoll_wait(ep, evs, 1024, 50);
    uint64_t now = now_ns();
    for (int i = 0; i < k; i++) {
      struct conn *x = &c[evs[i].data.u32]; int id = evs[i].data.u32;
      if (x->state == 0 && (evs[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int err = 0; socklen_t sl = sizeof err; getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &err, &sl);
        if (err) { failed++; pending--; x->state = 3; close(x->fd); continue; }
        char p[2048], req[8192]; snprintf(p, sizeof p, path, id % mod);
        int len = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n", p, host, port);
        for (int h = 6; h < argc; h++) len += snprintf(req + len, sizeof req - len, "%s\r\n", argv[h]);
        len += snprintf(req + len, sizeof req - len, "\r\n"); if (write(x->fd, req, len) != len) failed++;
        x->state = 1; struct epoll_event e = {.events = EPOLLIN, .data.u32 = id}; epoll_ctl(ep, EPOLL_CTL_MOD, x->fd, &e); continue;
      }
      if (evs[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        memcpy(buf, x->tail, x->tail_len);
        ssize_t r = read(x->fd, buf + x->tail_len, (1 << 18) - CARRY - 1);
        if (r <= 0) { if (r < 0 && errno == EAGAIN) continue; closed++; if (x->state == 1) { failed++; pending--; } x->state = 3; close(x->fd); continue; }
        bytes += r; now = now_ns(); size_t len = x->tail_len + r; buf[len] = 0;
        if (x->state == 1) { x->state = 2; pending--; opened++; if (strncmp(buf, "HTTP/1.1 200", 12)) { failed++; if (failed == 1) fprintf(stderr, "%.300s\n", buf); } if (opened + failed >= n) { } }
        char *q = buf, *end = buf + len, *last = buf;
        while ((q = memmem(q, end - q, mark, marklen))) {
          char *d = q + marklen; if (*d == ' ') d++; char *z = d; while (z < end && *z >= '0' && *z <= '9') z++;
          if (z == end) break;  // the number may go on in the next read
          uint64_t v = strtoull(d, 0, 10); events++; x->events++; if (v && now > v) sample(now - v); q = last = z;
        }
        size_t keep = end - (q ? q : (end - last > 48 ? end - (long)marklen + 1 : last)); if (keep > CARRY) keep = CARRY; if (!q && keep > marklen - 1) keep = marklen - 1;
        memcpy(x->tail, end - keep, keep); x->tail_len = keep;
      }
    }
    if (!t_open && opened + failed >= n) { t_open = now_ns(); t_end = t_open + (uint64_t)(secs * 1e9); ev0 = events; by0 = bytes; nlat = 0; fprintf(stderr, "open %d failed %d in %.2fs\n", opened, failed, (t_open - t0) / 1e9); FILE *f = getenv("SSELOAD_READY") ? fopen(getenv("SSELOAD_READY"), "w") : 0; if (f) fclose(f); }
    if (t_open && now_ns() > t_end) break;
  }
  double el = (now_ns() - t_open) / 1e9; qsort(lat, nlat, 8, cmp);
  struct rusage ru; getrusage(RUSAGE_SELF, &ru);
#define P(p) (nlat ? lat[(size_t)((nlat - 1) * p)] / 1e6 : 0)
  uint64_t mn = ~0ull, mx = 0; for (int i = 0; i < n; i++) { if (c[i].events < mn) mn = c[i].events; if (c[i].events > mx) mx = c[i].events; }
  printf("{\"open\":%d,\"failed\":%d,\"closed\":%d,\"open_s\":%.3f,\"events\":%lu,\"events_per_s\":%.0f,\"min_per_conn\":%lu,\"max_per_conn\":%lu,\"bytes\":%lu,\"bytes_after_open\":%lu,\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"client_cpu_s\":%.2f}\n",
         opened, failed, closed, (t_open - t0) / 1e9, events - ev0, (events - ev0) / el, mn, mx, bytes, bytes - by0, P(.5), P(.9), P(.99), P(1), ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
}
