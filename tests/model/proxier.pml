/* The proxier: the session's machine in session/proxied.py, the table in session/proxied_table.py,
 * and the shell that carries out what they decide, server/proxy/host.py, datapath.py, bridge.py and
 * starter.py. All of it runs on one event loop, so each step is what happens between two awaits. */

bit proxier_up = 1;

/* State. NO_SESSION: the table has none, and no tombstone either. */
#define NO_SESSION 0
#define NEW        1
#define STARTING   2
#define SERVING    3
#define DETACHED   4
#define RECREATING 5
#define P_CLOSED   6
#define P_EXPIRED  7
#define p_ended (p_state >= P_CLOSED)
#define p_is_up (p_state == SERVING || p_state == DETACHED)

/* The server on its way: none; to be created; created, and has not answered the init; given up, to
 * be done away with. */
#define NO_START 0
#define TO_CREATE 1
#define TO_ANSWER 2
#define TO_DISPOSE 3

#if FROM_START
byte p_state = NO_SESSION;
byte p_incarnation;
byte p_data = NO_STREAM; /* Host._data: the session's data stream, if it is attached */
#else
byte p_state = SERVING;
byte p_incarnation = 1;
byte p_data = 0;
#endif
#if FROM_START || FAULT == NOTHING_HANDED
byte p_handed; /* the newest id that was passed on to a server; 0: not known, or none */
#else
byte p_handed = 1; /* the init */
#endif
byte p_first = 1;    /* the incarnation that the session began with here */
byte p_start = NO_START;
bit p_grace;         /* the grace timer runs */
bit p_terminate;     /* the session has ended, its server is to be ended */
byte p_beginner = NO_STREAM; /* the stream that brought the init, ... */
byte p_init_id;      /* ... and the init's id */

/* A stream's handler: waits for its turn and for a server, or is a bridge to one. */
#define NO_HANDLER 0
#define QUEUED 1
#define BRIDGE 2
byte handler[STREAMS];
byte bridged_to[STREAMS]; /* the incarnation at the other end */
bit broken_off[STREAMS];  /* Attachment.broken */
bit has_older[STREAMS];   /* Attachment._older: the other stream is still to let go of the server */
bit says_cleanup[STREAMS]; /* Bridge.cleanup */

hidden byte y_code, y_id, y_from;

/* -- Streams. */

/* ProxiedSession.attach, Host.attach */
inline attach(stream) {
    handler[stream] = QUEUED;
    broken_off[stream] = 0;
    says_cleanup[stream] = 0;
    has_older[stream] = 0;
    if
    :: p_data != NO_STREAM -> /* superseded; the client would not come back after that */
        broken_off[p_data] = 1;
        refuse(p_data, GONE);
        has_older[stream] = 1
    :: else -> p_grace = 0
    fi;
    p_data = stream;
    if
    :: p_state == DETACHED -> p_state = SERVING
    :: else
    fi
}

inline refuse(stream, how) {
    if
    :: ended[stream] == WHOLE -> ended[stream] = how
    :: else
    fi
}

/* SessionTable.open and reconnect, Datapath.handle */
inline accept(stream) {
    y_code = opening[stream];
    opening[stream] = NOT_OPENING;
    if
    :: y_code == OPEN_AGAIN && p_state == NO_SESSION -> refuse(stream, FORGOTTEN)
    :: y_code == OPEN_AGAIN && p_ended -> refuse(stream, GONE)
    :: y_code == OPEN_AGAIN && !p_ended && p_state != NO_SESSION -> attach(stream)
    :: y_code != OPEN_AGAIN && (p_state == NO_SESSION || p_ended) ->
        p_state = NEW;
        p_incarnation = 0;
        p_handed = 0;
        p_data = NO_STREAM;
        attach(stream)
    :: else -> refuse(stream, GONE) /* FAILED_PRECONDITION: it has a session already */
    fi
}

/* Attachment.turn */
#define has_turn(stream) \
    (handler[stream] == QUEUED && !broken_off[stream] \
     && (!has_older[stream] || handler[1 - stream] == NO_HANDLER))

/* _Stream._begin, ProxiedSession.begin */
inline begin(stream) {
    to_proxier[stream]?y_code,y_id,y_from;
    if
    :: y_code == INIT ->
        p_state = STARTING;
        p_first = y_from + 1;
        p_incarnation = y_from + 1;
        p_beginner = stream;
        p_init_id = y_id;
#if FAULT != NOTHING_HANDED
        p_handed = y_id;
#endif
        p_start = TO_CREATE
    :: else ->
        /* Who does not begin means an earlier session, of which nothing is known here. */
#if FAULT != NEW_TAKEN
        refuse(stream, FORGOTTEN);
#else
        refuse(stream, GONE);
#endif
        end_session(P_CLOSED);
        handler_ends(stream)
    fi
}

/* _Stream._server, _carry: the stream is joined to the server. The one that brought the init is
 * told of the answer. */
inline carry(stream) {
    handler[stream] = BRIDGE;
    bridged_to[stream] = p_incarnation;
    drain(to_server[stream]);
    if
    :: s_stream == stream -> s_stream = NO_STREAM
    :: else
    fi;
    s_next = stream;
    if
    :: p_beginner == stream && ended[stream] == WHOLE && clients_end[stream] ->
        to_client[stream]!INIT,p_init_id,p_incarnation
    :: else
    fi;
    p_beginner = NO_STREAM
}

/* Host.serving */
#if FAULT != LOST_WAKEUP
#define has_server (p_state == SERVING && s_alive)
#else
#define has_server (p_state == SERVING && s_alive && p_incarnation == p_first)
#endif

/* Bridge._to_server: not passed on if the server's process has exited, but a goodbye is noted. */
#if FAULT != STREAM_KEPT
#define can_pass(stream) \
    (handler[stream] == BRIDGE && s_alive && s_incarnation == bridged_to[stream] \
     && len(to_proxier[stream]) > 0 && len(to_server[stream]) < ROOM)
#else
#define can_pass(stream) \
    (handler[stream] == BRIDGE && s_alive && s_initialised \
     && len(to_proxier[stream]) > 0 && len(to_server[stream]) < ROOM)
#endif

#define can_drop(stream) \
    (handler[stream] == BRIDGE && FAULT != STREAM_KEPT && bridged_to[stream] != 0 \
     && !(s_alive && s_incarnation == bridged_to[stream]) && len(to_proxier[stream]) > 0)

inline drop_next(stream) {
    to_proxier[stream]?y_code,y_id,y_from;
    if
    :: y_code == CLEANUP -> says_cleanup[stream] = 1
    :: else
    fi;
    bridged_to[stream] = 0 /* It reads no more. */
}

inline pass_on(stream) {
    to_proxier[stream]?y_code,y_id,y_from;
    /* ProxiedSession.hand */
    if
    :: y_code < TRACKED ->
#if FAULT != HANDED_LATE
        p_handed = (y_id > p_handed -> y_id : p_handed);
#endif
        if
        :: is_submit(y_code) -> was_handed[task_of(y_code)] = 1
        :: else
        fi
    :: y_code == CLEANUP -> says_cleanup[stream] = 1
    :: else
    fi;
    to_server[stream]!y_code,y_id,y_from
}

/* The handler is through: the link broke, it is to end, or the client has taken its leave and the
 * server has done all that came before. Host.detach, ProxiedSession.client_gone and cleanup. */
#define can_end(stream) \
    (handler[stream] != NO_HANDLER && (ended[stream] != WHOLE || broken_off[stream] \
     || (handler[stream] == QUEUED && p_ended) \
     || (says_cleanup[stream] && (len(to_server[stream]) == 0 || !s_alive))))

inline handler_ends(stream) {
    handler[stream] = NO_HANDLER;
    broken_off[stream] = 0;
    has_older[stream] = 0;
    bridged_to[stream] = 0;
    drain(to_proxier[stream]);
    if
    :: p_beginner == stream -> p_beginner = NO_STREAM
    :: else
    fi;
    if
    :: p_data == stream -> p_data = NO_STREAM
    :: else
    fi
}

inline detach(stream) {
    y_code = (p_data == stream);
    refuse(stream, (p_ended -> GONE : BROKEN));
    handler_ends(stream);
    if
    :: !p_ended && p_state != NO_SESSION && says_cleanup[stream] -> end_session(P_CLOSED)
    :: y_code && !p_ended && !says_cleanup[stream] ->
        p_grace = 1;
        /* The table has a row for it. */
        assert(p_state != DETACHED);
        if
        :: p_state == SERVING -> p_state = DETACHED
        :: else
        fi
    :: else
    fi;
    says_cleanup[stream] = 0
}

/* ProxiedSession._end, Hosts._bury. A session that has not begun leaves no tombstone. */
inline end_session(how) {
#if FAULT != NEW_TAKEN
    p_state = (p_state == NEW -> NO_SESSION : how);
#else
    p_state = how;
#endif
    p_grace = 0;
    p_start = NO_START;
#if FAULT != LEFT_RUNNING
    p_terminate = s_alive
#endif
}

/* -- The server. */

/* Starter._attempt, up to the listening process. */
inline create() {
    create_server(p_incarnation);
    p_start = TO_ANSWER
}

/* _initialise: the first server gets the client's own init, later ones the reserved one. Then
 * ProxiedSession.server_up. */
inline initialise() {
#if FAULT == CACHED_INIT
    if
    :: p_incarnation != p_first ->
        /* No answer that was acknowledged is needed again, and nothing is refused as stale. */
        assert(INIT_REQ_ID > s_acknowledged)
    :: else
    fi;
#endif
    /* The table has a row for it. */
    assert(p_state == STARTING || p_state == RECREATING);
    s_initialised = 1;
#if FAULT == STREAM_KEPT
    s_next = p_data;
#endif
    p_start = NO_START;
    p_state = (p_data != NO_STREAM -> SERVING : DETACHED)
}

/* A process that died on its way up. ProxiedSession.start_failed: a session that has had no server
 * ends after some attempts. */
inline start_anew() {
    p_start = TO_CREATE
}

inline start_failed() {
    was_over = 1;
    end_session(P_CLOSED)
}

/* One that is too slow is done away with, and reaped, before the next attempt. */
inline time_out() {
    stalls--;
#if FAULT == NOT_REAPED
    p_start = TO_CREATE
#else
    p_start = TO_DISPOSE
#endif
}

inline dispose() {
    server_dies();
    p_start = TO_CREATE
}

/* Host._watch, ProxiedSession.server_exited: its process has been waited for. */
inline note_exit() {
    p_state = RECREATING;
    p_incarnation++;
    p_start = TO_CREATE;
    if
    :: p_data != NO_STREAM ->
#if FAULT != STREAM_KEPT
        broken_off[p_data] = 1;
        refuse(p_data, BROKEN);
        p_data = NO_STREAM;
        p_grace = 1
#endif
    :: else
    fi
}

/* Terminate: the server is killed and reaped. */
inline terminate() {
    p_terminate = 0;
    if
    :: s_alive -> server_dies()
    :: else
    fi
}

/* Its servers die with it: the kernel sends them SIGKILL (server/process.py). */
inline proxier_dies() {
    proxier_up = 0;
    was_forgotten = 1;
    if
    :: s_alive -> server_dies()
    :: else
    fi;
    for (y_id : 0 .. STREAMS - 1) {
        if
        :: handler[y_id] != NO_HANDLER || opening[y_id] != NOT_OPENING -> refuse(y_id, BROKEN)
        :: else
        fi;
        opening[y_id] = NOT_OPENING;
        handler_ends(y_id);
        says_cleanup[y_id] = 0
    };
    p_state = NO_SESSION;
    p_incarnation = 0;
    p_data = NO_STREAM;
    p_handed = 0;
    p_start = NO_START;
    p_grace = 0;
    p_terminate = 0;
    p_beginner = NO_STREAM
}
