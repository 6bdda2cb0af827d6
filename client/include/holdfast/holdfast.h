/* SPDX-License-Identifier: MIT
 *
 * Holdfast, the C interface. C11 and C++17.
 *
 * A client is a session with the broker. A publisher writes samples to a topic, a subscriber reads them. A loan is a
 * sample being written, a view one being read: both are pointers into shared memory, nothing is copied (samples of at
 * most 32 bytes without attributes ride in the ring and are copied once).
 *
 * Results: >= 0 is success or a condition (HF_EMPTY, HF_LAPPED, ...), < 0 a failure. After a failure hf_last_error()
 * gives a sentence that says what happened and what to do; it is kept per thread. Numbers never change.
 * Times: int64_t timeout_ns: 0 looks, negative waits for ever, else at most so long, on the monotonic clock.
 * Threads: a client may be used by any thread. A publisher, with its loans, and a subscriber each by one thread at a
 * time. A view may be released by any thread.
 * Processes: after fork() every handle of the parent answers HF_E_FORKED in the child; its mappings are not there.
 * Restarts: the broker may die. What is attached goes on without it; the client comes back to the next one by itself, with
 * the same handles. What needs a broker (opening a handle, growing a lane) waits for one, as long as a request may take, and
 * is then HF_E_NO_BROKER: try again later. Publishing and taking do not: a broker that is stopped costs them 50 ms once, and
 * whom they have not heard of yet they meet later. HF_E_CLOSED, HF_E_VERSION or HF_E_DENIED instead: this client can not come
 * back, because the broker began anew or does not fit; what is attached still goes on, for the rest open a new client.
 */
#ifndef HOLDFAST_HOLDFAST_H_
#define HOLDFAST_HOLDFAST_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(HOLDFAST_BUILDING)
#define HF_API __attribute__((visibility("default")))
#else
#define HF_API
#endif

/* Conditions. */
#define HF_OK 0
#define HF_EMPTY 1    /* nothing to take */
#define HF_FULL 2     /* lossless subscribers have not taken enough: no room in the ring */
#define HF_LAPPED 3   /* the subscriber was too slow: view.missed samples are lost to it */
#define HF_FINISHED 4 /* a publisher closed its lane, and all of it has been taken */
#define HF_ABORTED 5  /* a publisher died, and all that it published has been taken */
#define HF_TIMEOUT 6  /* the time is over */

/* Failures. */
#define HF_E_INVALID (-1)    /* an argument is wrong */
#define HF_E_NO_BROKER (-2)  /* no broker answers, or it is away: once it is back, the same call works */
#define HF_E_DENIED (-3)     /* no permission */
#define HF_E_QUOTA (-4)      /* over this session's memory, or over a subscriber's views */
#define HF_E_NO_MEMORY (-5)  /* the machine has too little shared memory left */
#define HF_E_BUSY (-6)       /* a limit of the broker or of the library is reached */
#define HF_E_NOT_FOUND (-7)  /* no such thing */
#define HF_E_EXISTS (-8)     /* an exclusive publisher is there already */
#define HF_E_MISMATCH (-9)   /* options or type differ from those of the topic */
#define HF_E_VERSION (-10)   /* client and broker do not fit */
#define HF_E_CORRUPT (-11)   /* another process wrote wrong bytes; view.publisher says which */
#define HF_E_FORKED (-12)    /* a handle of the parent, used in a forked child */
#define HF_E_CLOSED (-13)    /* the handle, loan or view is closed, published or released; or the broker began anew */
#define HF_E_EXHAUSTED (-14) /* no chunk is free and the lane may not grow; see hf_publisher_options.bytes_max */
#define HF_E_TOO_LARGE (-15) /* larger than the lane or the format allows */
#define HF_E_PROTOCOL (-16)  /* the broker's answer makes no sense */
#define HF_E_SYSTEM (-17)    /* a system call failed */

/* The name of a result, such as "HF_EMPTY"; "HF_UNKNOWN" for other numbers. Static storage. */
HF_API const char* hf_result_name(int result);

/* The sentence of this thread's last failure. Valid until the thread's next failure. Never NULL. */
HF_API const char* hf_last_error(void);

/* "1.0.0", of the library. Static storage. */
HF_API const char* hf_version(void);

/* ---- client ---------------------------------------------------------------------------------------------------- */

typedef struct hf_client hf_client;
typedef struct hf_publisher hf_publisher;
typedef struct hf_subscriber hf_subscriber;

typedef struct hf_client_options {
  size_t struct_size;    /* sizeof(hf_client_options) */
  const char* socket;    /* path of the control socket; NULL: HOLDFAST_SOCKET, else the instance's */
  const char* instance;  /* NULL: HOLDFAST_INSTANCE, else "default"; given: the broker must be this instance's */
  const char* name;      /* shown by `holdfast ls`; NULL: the program's name */
  int64_t timeout_ns;    /* for one request to the broker, and for a broker that is away to come back; 0: 10 s */
} hf_client_options;

/* Connects to the broker. `options` may be NULL. On success *client must be closed. Where no broker listens it fails at
 * once: HF_E_NO_BROKER, naming every path tried. One that takes the connection and then ends (it is killed, or hands over to
 * the next one) is followed by another: that is waited for, as long as options.timeout_ns. Failures: HF_E_NO_BROKER (also
 * one that does not answer in time), HF_E_INVALID (no name of an instance, or the broker is another instance's), HF_E_DENIED,
 * HF_E_VERSION, HF_E_BUSY, HF_E_NO_MEMORY. */
HF_API int hf_client_open(const hf_client_options* options, hf_client** client);

/* Closes the client and all its handles. Views stay valid until they are released: the session ends with the last one.
 * NULL is allowed. */
HF_API void hf_client_close(hf_client* client);

/* Session id, as in `holdfast ls`. */
HF_API uint32_t hf_client_session(const hf_client* client);

/* One control round trip: 0 if the broker answers. After a restart of the broker it makes the client come back, which
 * otherwise happens at the next call that needs the broker. A broker that is away is waited for once, options.timeout_ns
 * long; until it is back, later requests fail at once: HF_E_NO_BROKER. HF_E_CLOSED, HF_E_VERSION, HF_E_DENIED: it never
 * will, open a new client. */
HF_API int hf_client_ping(hf_client* client);

/* ---- publisher ------------------------------------------------------------------------------------------------- */

enum { HF_CLOCK_UNSET = 0, HF_CLOCK_NONE = 1, HF_CLOCK_COARSE = 2, HF_CLOCK_EXACT = 3 };
enum { HF_BACKING_UNSET = 0, HF_BACKING_NAMED = 1, HF_BACKING_SEALED = 2 };

/* A type is checked when a handle is opened: two that both name one must agree. */
typedef struct hf_type {
  const char* name; /* "point{x:f64@0;y:f64@8}16:8", or any name */
  uint64_t bytes; /* of one element */
  uint64_t align;
  uint64_t hash; /* 0: of the name */
} hf_type;

/* 0 or NULL in any member: what the topic has, or the default where this handle is the first. */
typedef struct hf_publisher_options {
  size_t struct_size;
  uint32_t ring_slots; /* samples in flight; a power of two, 8 to 1048576; default 64 */
  uint32_t chunks_max; /* chunks of a lane; 64 to 65536, a multiple of 64; default 64 */
  int32_t clock; /* HF_CLOCK_*: what view.time_ns holds; default none */
  int32_t exclusive; /* 1: no second publisher while this one lives; 2: shared, said explicitly */
  int32_t backing; /* HF_BACKING_*; default: named, sealed where publisher and broker have different uids */
  uint32_t depth; /* samples that stay readable for late joiners; default 1, at most 3/4 of the ring */
  int64_t linger_ns; /* how long an ended lane stays readable; default 30 s; negative: for ever */
  int64_t stall_timeout_ns; /* when a lossless subscriber that takes nothing is turned; default 10 s; negative: never */
  uint64_t bytes_max; /* how large this lane may grow; default 8 GiB; at least 4096 + 64 for each slot, where only
                       * samples of up to 32 bytes fit */
  const hf_type* type;
  int32_t
      huge_pages; /* 1: pages of 2 MiB where the system gives them, for what the lane grows by: faster for samples of
                       * many MiB, slower to grow */
} hf_publisher_options;

HF_API int hf_publisher_open(hf_client* client, const char* topic, const hf_publisher_options* options,
                             hf_publisher** publisher);

/* Ends the lane: subscribers take what is there, then HF_FINISHED. Open loans become invalid. NULL is allowed. */
HF_API void hf_publisher_close(hf_publisher* publisher);

/* A sample being written. Members are read-only to users; data through hf_loan_data(). May be copied as long as only
 * one copy is published or dropped. */
typedef struct hf_loan {
  void* data; /* in shared memory; NULL: inline_payload */
  uint64_t bytes; /* of payload, as asked for */
  uint64_t attribute_room; /* bytes that hf_loan_set_attributes() may take */
  uint32_t attribute_bytes;
  uint32_t type; /* free for users: a tag that travels with the sample */
  hf_publisher* publisher; /* NULL once published or dropped */
  uint32_t chunk;
  uint32_t serial;
  uint8_t inline_payload[32];
} hf_loan;

static inline void* hf_loan_data(hf_loan* loan) { return loan->data != NULL ? loan->data : loan->inline_payload; }

/* Reserves a sample of `bytes` payload bytes (0 to 2^48 - 1) and room for `attribute_bytes` (0 to 65536) of encoded
 * attributes. The payload is aligned to 64 bytes, to 4096 from a page up; up to 32 bytes without attributes are inline.
 * Its content is what an earlier sample left there. Waits up to timeout_ns for memory that subscribers still use, and
 * for a broker that is away, where the lane has to grow (at most as long as a request may take). With 0 a lane still grows
 * where the broker answers as fast as it can; one that is stopped costs a second once, and until it answers nothing more.
 * Failures: HF_E_EXHAUSTED, HF_E_QUOTA, HF_E_NO_MEMORY, HF_E_TOO_LARGE, HF_E_NO_BROKER; condition HF_TIMEOUT. */
HF_API int hf_publisher_loan(hf_publisher* publisher, uint64_t bytes, uint32_t attribute_bytes, int64_t timeout_ns,
                             hf_loan* loan);

/* Copies encoded attributes (see hf_attributes_*) behind the payload. At most loan->attribute_room bytes. */
HF_API int hf_loan_set_attributes(hf_loan* loan, const void* encoded, uint32_t bytes);

/* Publishes. HF_FULL or HF_TIMEOUT: not published, the loan is as it was. */
HF_API int hf_loan_publish(hf_loan* loan, int64_t timeout_ns);

/* Publishes `count` loans of one publisher, in order, together. *published (may be NULL) says how many were. */
HF_API int hf_loan_publish_batch(hf_loan* loans, size_t count, int64_t timeout_ns, size_t* published);

/* Gives a loan back unpublished. NULL, and a loan already published or dropped, are allowed. */
HF_API void hf_loan_drop(hf_loan* loan);

/* Copies and publishes in one call: the fastest way for up to 32 bytes. */
HF_API int hf_publish(hf_publisher* publisher, const void* payload, uint64_t bytes, int64_t timeout_ns);

/* The same with encoded attributes and a tag. */
HF_API int hf_publish_with(hf_publisher* publisher, const void* payload, uint64_t bytes, const void* attributes,
                           uint32_t attribute_bytes, uint32_t type, int64_t timeout_ns);

/* Publishes `count` samples of `bytes` (at most 32) each, laid out one behind the other, `stride` bytes apart. */
HF_API int hf_publish_batch(hf_publisher* publisher, const void* payloads, uint64_t bytes, size_t stride, size_t count,
                            int64_t timeout_ns, size_t* published);

/* Subscribers attached to this publisher's lane; no request to the broker. */
HF_API int64_t hf_publisher_subscriber_count(hf_publisher* publisher);

/* Waits until at least `count` are attached and get what is published from now on: HF_OK or HF_TIMEOUT. */
HF_API int hf_publisher_wait_for_subscribers(hf_publisher* publisher, int64_t count, int64_t timeout_ns);

/* Waits until every lossless subscriber has taken everything and no view of this lane is held by one: HF_OK or
 * HF_TIMEOUT. */
HF_API int hf_publisher_drain(hf_publisher* publisher, int64_t timeout_ns);

/* Position of the next sample: how many this publisher has published. */
HF_API uint64_t hf_publisher_position(const hf_publisher* publisher);

/* ---- subscriber ------------------------------------------------------------------------------------------------ */

enum { HF_DROP_OLDEST = 0, HF_LOSSLESS = 1 };
enum { HF_START_NEXT = 0, HF_START_LATEST = 1, HF_START_OLDEST = 2 };

typedef struct hf_subscriber_options {
  size_t struct_size;
  int32_t delivery; /* HF_DROP_OLDEST: the publisher never waits; HF_LOSSLESS: nothing is lost, the publisher waits */
  int32_t start; /* HF_START_*: where a late joiner begins */
  const hf_type* type; /* NULL: any */
  uint64_t spin_ns; /* how long a wait looks before it sleeps; 0, or a machine with one CPU: not at all */
} hf_subscriber_options;

HF_API int hf_subscriber_open(hf_client* client, const char* topic, const hf_subscriber_options* options,
                              hf_subscriber** subscriber);

/* Takes no more. Views stay valid until they are released. NULL is allowed. */
HF_API void hf_subscriber_close(hf_subscriber* subscriber);

/* A sample being read, or what happened instead. Members are read-only; payload through hf_view_data(). */
typedef struct hf_view {
  const void* data; /* in shared memory; NULL: inline_payload */
  uint64_t bytes;
  const void* attributes; /* encoded; NULL if there are none */
  uint32_t attribute_bytes;
  uint32_t type; /* the publisher's tag */
  uint64_t position; /* in its publisher's lane: 0, 1, 2, ... */
  uint64_t time_ns; /* CLOCK_MONOTONIC at publish; 0 without a clock */
  uint64_t missed; /* with HF_LAPPED: how many samples */
  uint32_t publisher; /* session id */
  uint32_t turned; /* with HF_LAPPED: 1 if this lossless subscriber was turned to drop-oldest after a stall */
  void* holder; /* NULL: nothing to release */
  uint32_t chunk;
  uint32_t lane; /* differs where `publisher` does not: two publishers of one client, or one opened again */
  uint8_t inline_payload[32];
} hf_view;

static inline const void* hf_view_data(const hf_view* view) {
  return view->data != NULL ? view->data : (const void*)view->inline_payload;
}

/* Takes the next sample. HF_OK: *view is one and must be released. HF_EMPTY; HF_LAPPED (view->missed, view->publisher);
 * HF_FINISHED and HF_ABORTED (view->publisher, view->lane) once per publisher that ended; HF_E_CORRUPT (view->publisher).
 * Lanes are taken in turn. HF_E_QUOTA: this subscriber holds views of 3/4 of the chunks of the only lanes that have
 * samples; nothing is lost, release some. HF_E_CLOSED (HF_E_VERSION, HF_E_DENIED): the broker began anew or does not fit,
 * and the last lane from before has ended: open a new client. */
HF_API int hf_take(hf_subscriber* subscriber, hf_view* view);

/* The same, and waits: HF_TIMEOUT in place of HF_EMPTY. */
HF_API int hf_take_wait(hf_subscriber* subscriber, int64_t timeout_ns, hf_view* view);

/* Takes up to `count` samples of one lane under one fence; *taken says how many. Result as hf_take() where it is 0. */
HF_API int hf_take_batch(hf_subscriber* subscriber, hf_view* views, size_t count, size_t* taken);

/* Gives a view back, from any thread. NULL and released views are allowed. The memory must not be used afterwards. */
HF_API void hf_view_release(hf_view* view);
HF_API void hf_view_release_batch(hf_view* views, size_t count);

/* Waits until one of the subscribers has something to take: HF_OK, *ready (may be NULL) its index; or HF_TIMEOUT. */
HF_API int hf_wait(hf_subscriber* const* subscribers, size_t count, int64_t timeout_ns, size_t* ready);

/* A descriptor for poll, epoll and event loops: readable when there may be something to take. It belongs to the
 * subscriber and never changes. Before sleeping on it, take until HF_EMPTY. It keeps one of the 64 bells of its client, of
 * which each thread that waits needs one: HF_E_BUSY when there is none. Failure: < 0. */
HF_API int hf_fd(hf_subscriber* subscriber);

/* ---- attributes ------------------------------------------------------------------------------------------------ */

enum {
  HF_BOOL = 1, /* one byte, 0 or 1 */
  HF_INT = 2, /* int64_t */
  HF_FLOAT = 3, /* double */
  HF_STRING = 4, /* UTF-8, not terminated */
  HF_BYTES = 5,
  HF_TIMESTAMP = 6, /* int64_t nanoseconds since 1970, UTC */
  HF_BOOL_LIST = 17,
  HF_INT_LIST = 18,
  HF_FLOAT_LIST = 19,
  HF_STRING_LIST = 20, /* each: uint32_t bytes, then the bytes */
  HF_EMPTY_LIST = 31 /* a list without elements and without an element type */
};

/* One attribute inside an encoding. Pointers into the encoding, not aligned. */
typedef struct hf_attribute {
  int32_t kind; /* HF_BOOL ... */
  uint32_t key_bytes;
  const char* key;
  const void* value;
  uint32_t value_bytes;
  uint32_t count; /* elements of a list, else 1 */
} hf_attribute;

/* Appends one attribute to the encoding of *bytes bytes in `buffer` of `capacity` bytes. Key: 1 to 255 bytes of UTF-8;
 * one may stand several times: hf_attributes_next() gives each, hf_attributes_find() the first.
 * Failures: HF_E_TOO_LARGE (nothing was written), HF_E_INVALID. */
HF_API int hf_attributes_add(void* buffer, uint32_t capacity, uint32_t* bytes, int32_t kind, const char* key,
                             const void* value, uint32_t value_bytes);

/* Walks an encoding: start with *offset = 0. HF_OK, HF_EMPTY at the end, HF_E_CORRUPT if the bytes make no sense. */
HF_API int hf_attributes_next(const void* encoded, uint32_t bytes, uint32_t* offset, hf_attribute* attribute);

/* Finds a key: HF_OK, HF_E_NOT_FOUND, HF_E_CORRUPT. */
HF_API int hf_attributes_find(const void* encoded, uint32_t bytes, const char* key, hf_attribute* attribute);

#ifdef __cplusplus
}
#endif

#endif /* HOLDFAST_HOLDFAST_H_ */
