/* Loads a server with WebSockets, cheaply: it sends frames that somebody else has made and looks only at the heads of
 * those that come back.
 *
 *     socket_load ADDRESS NUMBER CONNECTIONS MILLISECONDS LENGTH FILE
 *
 * FILE: the handshake, then frames, each behind its length (32 bits, as this machine writes them). Each connection
 * sends one frame, waits for the message that answers it, and sends the next, round and round. LENGTH: bytes of the
 * payload that an answer must have; 0 = any. MILLISECONDS 0: nothing is sent.
 *
 * The connections are opened one after the other and held until standard input ends. Writes "JSON {requests,
 * microseconds, p50, p99, errors}", times in microseconds, as report.lua does for wrk. Where nothing is sent, requests
 * are connections, and the line comes when all are open; else "OPEN" comes then, the load begins with a byte from
 * standard input, and the line comes behind it: so what opening and closing cost is not taken for the cost of messages.
 * Exit status 1 with a line on standard error: the load could not begin. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 64, LONGEST = 1 << 20, PIECE = 1 << 16, EVENTS = 256, PATIENCE = 20 };
enum { FIN = 0x80, OPCODE = 0x0f, MASKED = 0x80, CLOSE = 8, FULL_HEAD = 10 };

struct block {
    uint32_t size;
    char *bytes;
};

struct connection {
    int fd;
    uint32_t turn, sent;             /* which frame is under way, and how much of it has left */
    uint64_t begun;                  /* when that was */
    unsigned char head[FULL_HEAD];   /* of the frame that is coming */
    uint32_t head_size;
    uint64_t left, payload;          /* of that frame; of all frames of the message so far */
    bool inside;                     /* its head is complete */
};

static struct block blocks[BLOCKS];
static uint32_t block_count;
static uint32_t *latencies; /* how many messages took so many microseconds; the last one: or longer */
static uint64_t requests, errors, wanted;
static char piece[PIECE];

static void fail(const char *what) {
    fprintf(stderr, "socket_load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static void count(uint64_t begun) {
    uint64_t took = now() - begun;
    latencies[took < LONGEST ? took : LONGEST]++;
    requests++;
}

static uint64_t percentile(unsigned part) {
    uint64_t seen = 0, rank = requests * part / 100;
    for (uint64_t took = 0; took <= LONGEST; took++)
        if ((seen += latencies[took]) > rank)
            return took;
    return LONGEST;
}

static void report(uint64_t microseconds) {
    printf("JSON {\"requests\":%llu,\"microseconds\":%llu,\"p50\":%llu,\"p99\":%llu,\"errors\":%llu}\n",
           (unsigned long long)requests, (unsigned long long)microseconds, (unsigned long long)percentile(50),
           (unsigned long long)percentile(99), (unsigned long long)errors);
    fflush(stdout);
}

static void read_blocks(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file)
        fail(name);
    struct block one;
    while (block_count < BLOCKS && fread(&one.size, sizeof one.size, 1, file) == 1) {
        one.bytes = malloc(one.size);
        if (!one.bytes || fread(one.bytes, 1, one.size, file) != one.size)
            fail(name);
        blocks[block_count++] = one;
    }
    fclose(file);
    errno = 0;
    if (block_count < 2)
        fail("a handshake and a frame are needed");
}

/* A connection on which the server has answered the handshake with 101. Nothing may come behind that by itself. */
static int open_one(const struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct timeval patience = {.tv_sec = PATIENCE};
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address))
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (send(fd, blocks[0].bytes, blocks[0].size, MSG_NOSIGNAL) != (ssize_t)blocks[0].size)
        fail("send");
    char head[4096];
    size_t size = 0;
    while (size < 4 || memcmp(head + size - 4, "\r\n\r\n", 4)) {
        ssize_t got = size < sizeof head ? recv(fd, head + size, sizeof head - size, 0) : 0;
        if (got <= 0)
            fail("the handshake was not answered");
        size += (size_t)got;
    }
    if (memcmp(head, "HTTP/1.1 101 ", 13))
        fail("the handshake was refused");
    return fd;
}

/* Send what is left of the frame that is under way. Returns false when the connection has failed. */
static bool push(struct connection *one) {
    const struct block *frame = &blocks[1 + one->turn % (block_count - 1)];
    while (one->sent < frame->size) {
        ssize_t done = send(one->fd, frame->bytes + one->sent, frame->size - one->sent, MSG_NOSIGNAL);
        if (done < 0)
            return errno == EAGAIN; /* the answer to the rest comes later: EPOLLOUT is watched, edge-triggered */
        one->sent += (uint32_t)done;
    }
    return true;
}

static bool next(struct connection *one) {
    one->turn++;
    one->sent = 0;
    one->begun = now();
    return push(one);
}

/* Bytes that the head of a frame has, as far as those that have come tell. */
static uint32_t head_length(const struct connection *one) {
    if (one->head_size < 2)
        return 2;
    unsigned length = one->head[1];
    return length == 126 ? 4 : length == 127 ? 10 : 2;
}

/* Take in what has come. Returns false when it is not what a server may send, or the wrong answer. */
static bool take(struct connection *one, const char *data, size_t size) {
    while (size || (one->inside && !one->left)) {
        if (!one->inside) {
            one->head[one->head_size++] = (unsigned char)*data++;
            size--;
            if (one->head_size < head_length(one))
                continue;
            if (one->head[1] & MASKED || (one->head[0] & OPCODE) == CLOSE)
                return false;
            one->left = one->head[1];
            if (one->head[1] > 125) {
                one->left = 0;
                for (uint32_t place = 2; place < one->head_size; place++)
                    one->left = one->left << 8 | one->head[place];
            }
            one->inside = true;
            if ((one->head[0] & OPCODE) < CLOSE)
                one->payload += one->left;
        }
        size_t part = size < one->left ? size : (size_t)one->left;
        data += part;
        size -= part;
        one->left -= part;
        if (one->left)
            return true;
        one->inside = false;
        one->head_size = 0;
        if (one->head[0] & FIN && (one->head[0] & OPCODE) < CLOSE) {
            if (wanted && one->payload != wanted)
                return false;
            one->payload = 0;
            count(one->begun);
            if (!next(one))
                return false;
        }
    }
    return true;
}

static bool pull(struct connection *one) {
    for (;;) {
        ssize_t got = recv(one->fd, piece, sizeof piece, 0);
        if (got <= 0)
            return got < 0 && errno == EAGAIN;
        if (!take(one, piece, (size_t)got))
            return false;
        if ((size_t)got < sizeof piece)
            return true; /* edge-triggered: what comes later is told again */
    }
}

static void load(struct connection *all, int connections, uint64_t microseconds) {
    int events = epoll_create1(0), open = connections;
    for (int number = 0; number < connections; number++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &all[number]};
        fcntl(all[number].fd, F_SETFL, O_NONBLOCK);
        all[number].turn = (uint32_t)number;
        if (epoll_ctl(events, EPOLL_CTL_ADD, all[number].fd, &event))
            fail("epoll");
    }
    uint64_t begun = now(), end = begun + microseconds;
    for (int number = 0; number < connections; number++)
        next(&all[number]);
    while (open && now() < end) {
        struct epoll_event ready[EVENTS];
        int found = epoll_wait(events, ready, EVENTS, 100);
        for (int number = 0; number < found; number++) {
            struct connection *one = ready[number].data.ptr;
            if (!push(one) || (ready[number].events & ~(uint32_t)EPOLLOUT && !pull(one))) {
                epoll_ctl(events, EPOLL_CTL_DEL, one->fd, NULL);
                errors++;
                open--;
            }
        }
    }
    report(now() - begun);
}

int main(int argc, char **argv) {
    if (argc != 7)
        fail("usage: socket_load ADDRESS NUMBER CONNECTIONS MILLISECONDS LENGTH FILE");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    int connections = atoi(argv[3]);
    uint64_t microseconds = strtoull(argv[4], NULL, 10) * 1000;
    struct connection *all = calloc((size_t)connections, sizeof *all);
    latencies = calloc(LONGEST + 1, sizeof *latencies);
    wanted = strtoull(argv[5], NULL, 10);
    if (!all || !latencies || connections < 1 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
        fail("arguments");
    read_blocks(argv[6]);
    uint64_t begun = now();
    for (int number = 0; number < connections; number++) {
        uint64_t each = now();
        all[number].fd = open_one(&address);
        if (!microseconds)
            count(each);
    }
    if (microseconds) {
        puts("OPEN");
        fflush(stdout);
        if (getchar() == EOF)
            fail("the load was not asked for");
        load(all, connections, microseconds);
    } else {
        report(now() - begun);
    }
    while (getchar() != EOF)
        ;
    return 0;
}
