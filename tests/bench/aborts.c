// aborts: clients that connect, ask for a stream and are gone, again and again.
// usage: aborts HOST PORT PATH COUNT WINDOW
// WINDOW at once. In turn: a reset right after the request, a reset after the first bytes, an orderly
// close after the first bytes. Prints one line of JSON.
// build: cc -O2 -o aborts aborts.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
struct conn { int fd, asked, kind; };
int main(int argc, char **argv) {
  if (argc != 6) { fprintf(stderr, "usage: aborts HOST PORT PATH COUNT WINDOW\n"); return 2; }
  int count = atoi(argv[4]), window = atoi(argv[5]), started = 0, here = 0;
  long answered = 0, failed = 0, not200 = 0; double t0 = now();
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))}; inet_pton(AF_INET, argv[1], &a.sin_addr);
  char req[1024], buf[65536];
  int len = snprintf(req, sizeof req, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", argv[3], argv[1]);
  struct conn *c = calloc(window, sizeof *c); for (int i = 0; i < window; i++) c[i].fd = -1;
  int ep = epoll_create1(0); struct epoll_event evs[256]; int slot = 0;
  while (started < count || here > 0) {
    while (here < window && started < count) {
      while (c[slot].fd >= 0) slot = (slot + 1) % window;
      int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      // Orderly closes leave ports behind for a minute: use several local addresses.
      struct sockaddr_in l = {.sin_family = AF_INET}; l.sin_addr.s_addr = htonl(0x7f000001u + started % 8); int yes = 1;
      setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes); bind(fd, (void *)&l, sizeof l);
      started++;
      if (fd < 0 || (connect(fd, (void *)&a, sizeof a) && errno != EINPROGRESS)) { failed++; if (fd >= 0) close(fd); continue; }
      c[slot] = (struct conn){.fd = fd, .kind = started % 3};
      struct epoll_event e = {.events = EPOLLOUT, .data.u32 = slot}; epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e); here++;
    }
    int k = epoll_wait(ep, evs, 256, 50);
    for (int i = 0; i < k; i++) {
      struct conn *x = &c[evs[i].data.u32]; int gone = 0;
      if (!x->asked) {
        if (write(x->fd, req, len) != len) { failed++; gone = 1; }
        else if (x->kind == 0) gone = 1;
        else { x->asked = 1; struct epoll_event e = {.events = EPOLLIN, .data.u32 = evs[i].data.u32}; epoll_ctl(ep, EPOLL_CTL_MOD, x->fd, &e); }
      } else {
        ssize_t r = read(x->fd, buf, sizeof buf - 1); buf[r > 0 ? r : 0] = 0;
        if (r <= 0) failed++; else { answered++; if (strncmp(buf, "HTTP/1.1 200", 12)) { not200++; if (not200 == 1) fprintf(stderr, "%.200s\n", buf); } }
        gone = 1;
      }
      if (gone) {
        if (x->kind != 2) { struct linger off = {1, 0}; setsockopt(x->fd, SOL_SOCKET, SO_LINGER, &off, sizeof off); }
        close(x->fd); x->fd = -1; x->asked = 0; here--;
      }
    }
  }
  printf("{\"count\":%d,\"answered\":%ld,\"failed\":%ld,\"not_200\":%ld,\"seconds\":%.3f}\n", count, answered, failed, not200, now() - t0);
}
