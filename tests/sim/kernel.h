/* kernel.h - what nutproxy calls instead of the system, when it is simulated. */
#ifndef SIM_KERNEL_H
#define SIM_KERNEL_H

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

void   *sim_malloc(size_t n);
void   *sim_calloc(size_t n, size_t size);
void   *sim_realloc(void *p, size_t n);
void    sim_free(void *p);
_Noreturn void sim_abort(void);
_Noreturn void sim_exit(int status);

int     sim_socket(int family, int type, int protocol);
int     sim_bind(int fd, const struct sockaddr *a, socklen_t len);
int     sim_listen(int fd, int backlog);
int     sim_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags);
int     sim_connect(int fd, const struct sockaddr *a, socklen_t len);
int     sim_shutdown(int fd, int how);
int     sim_close(int fd);
int     sim_dup(int fd);
int     sim_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
int     sim_getsockopt(int fd, int level, int name, void *value, socklen_t *len);
int     sim_getpeername(int fd, struct sockaddr *a, socklen_t *len);
int     sim_getsockname(int fd, struct sockaddr *a, socklen_t *len);
ssize_t sim_recv(int fd, void *to, size_t n, int flags);
ssize_t sim_read(int fd, void *to, size_t n);
ssize_t sim_readv(int fd, const struct iovec *iov, int n);
ssize_t sim_send(int fd, const void *at, size_t n, int flags);
ssize_t sim_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t sim_write(int fd, const void *at, size_t n);
ssize_t sim_sendto(int fd, const void *at, size_t n, int flags, const struct sockaddr *a, socklen_t len);
ssize_t sim_recvfrom(int fd, void *to, size_t n, int flags, struct sockaddr *a, socklen_t *len);

int     sim_epoll_create1(int flags);
int     sim_epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev);
int     sim_epoll_wait(int epfd, struct epoll_event *ev, int most, int ms);
int     sim_poll(struct pollfd *at, nfds_t n, int ms);
int     sim_eventfd(unsigned count, int flags);
int     sim_signalfd(int fd, const sigset_t *set, int flags);

int     sim_open(const char *path, int flags, ...);
int     sim_stat(const char *path, struct stat *st);
int     sim_fstat(int fd, struct stat *st);
int     sim_unlink(const char *path);
int     sim_chmod(const char *path, mode_t mode);

int     sim_clock_gettime(clockid_t clock, struct timespec *t);
int     sim_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *of), void *of);
int     sim_pthread_join(pthread_t t, void **out);
int     sim_pthread_detach(pthread_t t);
int     sim_prlimit(pid_t pid, int what, const struct rlimit *set, struct rlimit *get);
int     sim_uname(struct utsname *u);
int     sim_getentropy(void *to, size_t n);

int     nutproxy_main(int argc, char **argv);
void    nutproxy_reset(void);           /* as when it was just started */

#endif
