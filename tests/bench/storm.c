// storm: readers with cursors of their own that lose their server and all come back at once.
// usage: storm HOST PORT PATH CONNS GO_FILE READY_FILE SECONDS
// PATH may contain %d, replaced by the connection's number modulo MOD (env STORM_MOD, default CONNS).
// Each event whose data holds "n":NUMBER is counted: the numbers a connection sees must be consecutive,
// over all its reconnects; anything else is a gap or a double. The cursor is the id of the last event
// that was dispatched; it goes into Last-Event-ID.
// 1. Open all (128 at a time), make READY_FILE when each has had its first bytes, then read on.
// 2. When a connection ends, it waits until GO_FILE exists. Its contents are "TARGET LAST": all that have
//    lost their connection connect at that moment, and whatever is refused or closed from then on comes
//    back 50 ms later and is counted.
// 3. A reader is caught up when it has seen number TARGET. SECONDS after GO, or when all have seen LAST,
//    one line of JSON: times from GO until readers were caught up, what went wrong on the way, and how
//    many connections had ended before GO.
// build: cc -O2 -o storm storm.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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

enum { LINE = 512, ID = 64 };
enum { AWAY, CONNECTING, ASKED, OPEN };
struct conn {
  int fd, state, len, has_data, seen_any, caught;
  long last; uint64_t retry_at;
  char line[LINE], pending[ID], cursor[ID];
};
static uint64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static int cmp(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return x < y ? -1 : x > y; }

static const char *host, *path; static int port, mod, ep, opening;
static struct conn *c;
static long refused, failed, not200, before, ended, gaps, doubles, resets, caught, done, target = -1, last_of_all = -1;
static uint64_t go; static double *caught_at;

static void hang_up(struct conn *x, uint64_t t) {
  if (x->state == CONNECTING || x->state == ASKED) opening--;
  close(x->fd); x->state = AWAY; x->len = 0; x->has_data = 0; x->pending[0] = 0; x->retry_at = t + 50000000ull;
}

static void come(struct conn *x, int id, uint64_t t) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)}; inet_pton(AF_INET, host, &a.sin_addr);
  x->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); int yes = 1;
  setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  x->state = CONNECTING; opening++;
  if (x->fd < 0 || (connect(x->fd, (void *)&a, sizeof a) && errno != EINPROGRESS)) { if (go) failed++; hang_up(x, t); return; }
  struct epoll_event e = {.events = EPOLLOUT | EPOLLIN, .data.u32 = id}; epoll_ctl(ep, EPOLL_CTL_ADD, x->fd, &e);
}

static void ask(struct conn *x, int id, uint64_t t) {
  char p[1024], req[2048]; snprintf(p, sizeof p, path, id % mod);
  int len = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n", p, host, port);
  if (x->cursor[0]) len += snprintf(req + len, sizeof req - len, "Last-Event-ID: %s\r\n", x->cursor);
  len += snprintf(req + len, sizeof req - len, "\r\n");
  if (write(x->fd, req, len) != len) { if (go) failed++; hang_up(x, t); return; }
  x->state = ASKED; struct epoll_event e = {.events = EPOLLIN, .data.u32 = id}; epoll_ctl(ep, EPOLL_CTL_MOD, x->fd, &e);
}

static void number(struct conn *x, long n, uint64_t t) {
  if (x->seen_any && n <= x->last) { doubles++; return; }
  if (x->seen_any && n > x->last + 1) gaps += n - x->last - 1;
  x->seen_any = 1; x->last = n;
  if (go && !x->caught && n >= target) { x->caught = 1; caught_at[caught++] = (t - go) / 1e9; }
  if (last_of_all >= 0 && n == last_of_all) done++;
}

// One line of the stream, as the HTML standard reads it; the lines of chunked coding look like no field.
static void line(struct conn *x, uint64_t t) {
  char *l = x->line; l[x->len] = 0;
  if (x->len == 0) {
    if (x->pending[0]) strcpy(x->cursor, x->pending);
    x->has_data = 0;
  } else if (!strncmp(l, "id: ", 4)) snprintf(x->pending, ID, "%.60s", l + 4);
  else if (!strcmp(l, "event: reset")) resets++;
  else if (!strncmp(l, "data: ", 6)) { char *n = strstr(l, "\"n\":"); if (n) number(x, atol(n + 4), t); }
}

int main(int argc, char **argv) {
  if (argc != 8) { fprintf(stderr, "usage: storm HOST PORT PATH CONNS GO_FILE READY_FILE SECONDS\n"); return 2; }
  host = argv[1]; port = atoi(argv[2]); path = argv[3]; int n = atoi(argv[4]); double seconds = atof(argv[7]);
  mod = getenv("STORM_MOD") ? atoi(getenv("STORM_MOD")) : n;
  struct rlimit rl; getrlimit(RLIMIT_NOFILE, &rl); rl.rlim_cur = rl.rlim_max; setrlimit(RLIMIT_NOFILE, &rl);
  c = calloc(n, sizeof *c); caught_at = calloc(n, sizeof(double)); ep = epoll_create1(0);
  char *buf = malloc(1 << 18); struct epoll_event evs[1024]; int first = 0, opened = 0, told = 0; uint64_t checked = 0, t;
  for (;;) {
    t = now();
    if (!go && told && t - checked > 1000000ull) {
      checked = t; FILE *f = fopen(argv[5], "r");
      if (f) { if (fscanf(f, "%ld %ld", &target, &last_of_all) == 2) go = now(); fclose(f); }
      // Some may have had a number before they knew that it was the target.
      if (go) for (int i = 0; i < n; i++) { if (c[i].seen_any && c[i].last >= target) { c[i].caught = 1; caught_at[caught++] = 0; } if (c[i].seen_any && c[i].last == last_of_all) done++; }
    }
    if (!told) while (first < n && opening < 128) { come(&c[first], first, t); first++; }
    if (go) for (int i = 0; i < n; i++) if (c[i].state == AWAY && (c[i].retry_at <= t || c[i].retry_at < go)) come(&c[i], i, t);
    int k = epoll_wait(ep, evs, 1024, 5); t = now();
    for (int i = 0; i < k; i++) {
      int id = evs[i].data.u32; struct conn *x = &c[id];
      if (x->state == CONNECTING) {
        int err = 0; socklen_t sl = sizeof err; getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &err, &sl);
        if (err) { if (go) { if (err == ECONNREFUSED) refused++; else failed++; } hang_up(x, t); }
        else if (evs[i].events & EPOLLOUT) ask(x, id, t);
        continue;
      }
      ssize_t r = read(x->fd, buf, 1 << 18);
      if (r < 0 && errno == EAGAIN) continue;
      if (r <= 0) { if (go) ended++; else before++; hang_up(x, t); continue; }
      char *from = buf;
      if (x->state == ASKED) {
        opening--; x->state = OPEN;
        if (!told) { opened++; }
        if (strncmp(buf, "HTTP/1.1 200", 12)) { not200++; fprintf(stderr, "%.100s\n", buf); hang_up(x, t); continue; }
      }
      for (char *end = buf + r; from < end; from++) {
        if (*from == '\n') { line(x, t); x->len = 0; }
        else if (x->len < LINE - 1) x->line[x->len++] = *from;
      }
    }
    if (!told && opened == n) { told = 1; FILE *f = fopen(argv[6], "w"); if (f) fclose(f); }
    if (go && (t - go > seconds * 1e9 || done >= n)) break;
  }
  long missing = 0; for (int i = 0; i < n; i++) if (!c[i].seen_any || c[i].last != last_of_all) missing++;
  qsort(caught_at, caught, sizeof(double), cmp);
#define P(p) (caught ? caught_at[(long)((caught - 1) * p)] : 0)
  printf("{\"caught_up\":%ld,\"caught_p50_s\":%.3f,\"caught_p99_s\":%.3f,\"caught_all_s\":%.3f,\"refused\":%ld,\"failed\":%ld,\"not_200\":%ld,\"closed_before\":%ld,\"closed_early\":%ld,\"gaps\":%ld,\"doubles\":%ld,\"resets\":%ld,\"incomplete\":%ld,\"seconds\":%.3f}\n",
         caught, P(.5), P(.99), caught == n ? P(1) : -1, refused, failed, not200, before, ended, gaps, doubles, resets, missing, (t - go) / 1e9);
}
