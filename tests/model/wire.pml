/* What goes over the wire, and the data streams that it goes through: docs/protocol.md. */

/* Requests, by what they are about. The first ones are answered under their ids. */
#define SUBMIT(i)  (1 + (i))         /* run task i */
#define PUT(i)     (1 + N + (i))     /* here is the value of task i, which the client has seen */
#define GET(i)     (1 + 2 * N + (i)) /* tell the value of task i when there is one */
#define WAIT(i)    (1 + 3 * N + (i)) /* tell when there is one */
#define RELEASE(i) (1 + 4 * N + (i)) /* nobody holds the name of task i any more */
#define QUERY      (1 + 5 * N)       /* any question whose answer is to be the same when repeated */
#define INIT       (2 + 5 * N)
#define TRACKED    (3 + 5 * N)
#define ACK        TRACKED           /* forget answers up to the id that this carries */
#define CLEANUP    (TRACKED + 1)
#define WHO        (TRACKED + 2)     /* connection_info: who is there? */

#define is_submit(code) (SUBMIT(0) <= (code) && (code) < PUT(0))
#define is_put(code)    (PUT(0) <= (code) && (code) < GET(0))
#define is_get(code)    (GET(0) <= (code) && (code) < WAIT(0))
#define is_wait(code)   (WAIT(0) <= (code) && (code) < RELEASE(0))
#define is_release(code) (RELEASE(0) <= (code) && (code) < QUERY)
#define is_ordered(code) ((code) < TRACKED && !is_get(code) && !is_wait(code))
#define task_of(code)   (((code) - 1) % N)

/* The reserved request id of an init that a proxier makes up. */
#define INIT_REQ_ID -1
/* The answer to WHO does not tell what was handed: the session was just begun anew. */
#define UNKNOWN_HANDED 255
/* The value of what could not be run, since what it needs is lost. */
#define FAILED 15

/* A client has at most two data streams: the one that it uses, and the one before, which the
 * proxier may not yet know to be broken. */
#define STREAMS 2
#define NO_STREAM 2

/* Client to proxier, proxier to server: request, its id, the incarnation that it is meant for. */
chan to_proxier[STREAMS] = [ROOM] of { byte, byte, byte };
chan to_server[STREAMS] = [ROOM] of { byte, byte, byte };
/* Server to client: request, its id, the answer's value. What the proxier does to answers on their
 * way is done where they are made. */
chan to_client[STREAMS] = [ROOM] of { byte, byte, byte };

/* How a client opens a stream, for the proxier to find. */
#define NOT_OPENING  0
#define OPEN_FIRST   1 /* reconnecting: False */
#define OPEN_AGAIN   2 /* reconnecting: True */
#define OPEN_ANEW    3 /* False, since the proxier has forgotten the session */
byte opening[STREAMS];

/* How a stream has ended. What was under way may still arrive, or not, at either side. */
#define WHOLE     0
#define BROKEN    1 /* UNAVAILABLE and the like: worth another try */
#define FORGOTTEN 2 /* NOT_FOUND, session-unknown */
#define GONE      3 /* NOT_FOUND, session-gone, and what else can't be mended */
byte ended[STREAMS];

bit clients_end[STREAMS]; /* whether the client has it open */

hidden byte w_code, w_id, w_value, w_from, w_count; /* scratch */

inline drain(channel) {
    do
    :: len(channel) > 0 -> channel?_,_,_
    :: else -> break
    od
}

inline break_link(stream) {
    if
    :: ended[stream] == WHOLE -> ended[stream] = BROKEN
    :: else
    fi
}
