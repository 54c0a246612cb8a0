/* The client: its core, session/client.py and session/conversation.py, and the data stream's thread
 * in dataclient.py, which takes its steps under the core's lock. For the journal see journal.pml. */

/* State */
#define CONNECTING 0
#define CONNECTED  1
#define SUSPENDED  2
#define SESSION_LOST 3
#define CLOSED     4
#define EXITED     5 /* the process is gone */
#if FROM_START
byte client_state = CONNECTING;
byte c_incarnation; /* 0: not known yet */
byte c_last_id;
#else
byte client_state = CONNECTED;
byte c_incarnation = 1;
byte c_last_id = 1; /* of the init */
#endif
#define c_ended (client_state >= SESSION_LOST)
#define recovers (c_incarnation != 0)

/* The stream's thread: between streams; waiting for the answer to a stream's first message; using
 * the stream; done. */
#define DOWN    0
#define MEETING 1
#define OPEN    2
#define DONE    3
#if FROM_START
byte c_link = DOWN;
#else
byte c_link = OPEN;
#endif
byte c_stream; /* which of its streams it uses, or has used last */
bit c_forgotten; /* DataClient._forgotten */
byte c_answers; /* since the last acknowledgement */

/* Requests, by what they are about: their ids (0: UNMINTED, or not there), and whether they were
 * sent to the present incarnation. One with an id waits for its answer. */
byte c_id[TRACKED];
bit c_sent[TRACKED];
bit was_sent[N]; /* submissions that were sent to any incarnation, ... */
bit had[N];      /* ... and that one may have had which died */
/* Those that stand in line, with what they carry. */
#define LINE (5 * N + 4)
chan outbox = [LINE] of { byte, byte };

#if FAULT == BARE_UNTRACKED
byte bare_id; /* what a nameless request is sent again under; nobody awaits it */
#define has_bare_id (NAMELESS(0) && x_code == SUBMIT(0) && bare_id != 0)
#else
#define has_bare_id (0)
#endif

hidden byte x_code, x_arg, x_count, x_id, x_i, x_value, x_handed; /* scratch */
hidden byte x_go, x_changed, x_taken[N];

/* ClientSession.queue_first */
inline put_todo_first() {
    x_count = len(outbox);
    x_i = 0;
    do
    :: x_i < todo_count -> outbox!todo[x_i],0; x_i++
    :: else -> break
    od;
    do
    :: x_count > 0 -> outbox?x_code,x_arg; outbox!x_code,x_arg; x_count--
    :: else -> break
    od
}

/* ClientSession._line_up_again: what was sent and not answered, by age, then what was not sent. */
inline line_up_again() {
    x_count = len(outbox);
    do
    :: x_count > 0 ->
        outbox?x_code,x_arg;
        if
        :: x_code < TRACKED && c_id[x_code] == 0 -> outbox!x_code,x_arg
        :: else
        fi;
        x_count--
    :: else -> break
    od;
    x_count = len(outbox);
    x_id = 1;
    do
    :: x_id <= c_last_id ->
        x_code = 1;
        do
        :: x_code < TRACKED ->
            if
            :: c_id[x_code] == x_id -> outbox!x_code,0
            :: else
            fi;
            x_code++
        :: else -> break
        od;
        x_id++
    :: else -> break
    od;
    do
    :: x_count > 0 -> outbox?x_code,x_arg; outbox!x_code,x_arg; x_count--
    :: else -> break
    od
}

/* ClientSession._forget_effects, for what the journal makes again: it is taken out of the line and
 * out of those that are awaited. x_taken: the tasks whose submission was taken out; c_sent tells
 * whether a server may have had it. Releases that arrived go as well. */
inline take_journaled(handed) {
    for (x_i : 0 .. N - 1) {
        x_taken[x_i] = 0;
        note_arrival(SUBMIT(x_i), handed);
        note_arrival(RELEASE(x_i), handed);
        if
        :: c_id[SUBMIT(x_i)] != 0 -> x_taken[x_i] = 1
        :: else
        fi;
        if
        :: c_sent[RELEASE(x_i)] -> c_id[RELEASE(x_i)] = 0
        :: else
        fi
    };
    x_count = len(outbox);
    do
    :: x_count > 0 ->
        outbox?x_code,x_arg;
        if
        :: is_submit(x_code) && was_sent[task_of(x_code)] ->
            x_taken[task_of(x_code)] = 1
        :: is_put(x_code) /* The journal asks for it again if it is needed. */
        :: is_release(x_code) && c_sent[x_code]
        :: else -> outbox!x_code,x_arg
        fi;
        x_count--
    :: else -> break
    od;
#if FAULT == BARE_UNTRACKED
    bare_id = c_id[SUBMIT(0)];
#endif
    for (x_i : 0 .. N - 1) {
        c_id[PUT(x_i)] = 0;
        c_id[SUBMIT(x_i)] = 0
    }
}

inline note_arrival(code, handed) {
    if
    :: c_id[code] > handed && handed != UNKNOWN_HANDED -> c_sent[code] = 0
    :: else
    fi
}

/* The rest is sent again, in its order, under new ids: what it needs is sent first. */
inline forget_ids() {
    for (x_i : GET(0) .. TRACKED - 1) {
#if FAULT != OLD_IDS
        c_id[x_i] = 0;
#endif
        c_sent[x_i] = 0
    }
}

/* Conversation._replay: what the user has released is not to be run again, but for the sake of what
 * stands in line before it. */
inline read_releases() {
    x_go = 0;
    x_count = len(outbox);
    do
    :: x_count > 0 ->
        outbox?x_code,x_arg;
        outbox!x_code,x_arg;
        x_count--;
        if
#if FAULT != RELEASED_EARLY
        :: x_code == SUBMIT(1) && NEEDS(1) -> x_go = 1
        :: x_code == RELEASE(NEEDED) && x_go
#endif
        :: is_release(x_code) && !(x_code == RELEASE(NEEDED) && x_go) -> drop(task_of(x_code))
        :: else
        fi
    :: else -> break
    od
}

/* Conversation._replay, Journal.new_incarnation */
inline replay() {
#if FAULT != RELEASE_UNREAD
    read_releases();
#endif
    j_incarnation = c_incarnation;
    for (x_i : 0 .. N - 1) {
        j_charged[x_i] = 0
    };
    /* _is_due: what was not handed to any server costs nothing, what had finished waits. */
    for (x_i : 0 .. N - 1) {
        if
        :: !is_kept(x_i)
        :: is_kept(x_i) && x_taken[x_i] && !c_sent[SUBMIT(x_i)] -> j_charged[x_i] = 1
        :: is_kept(x_i) && !(x_taken[x_i] && !c_sent[SUBMIT(x_i)]) && j_finished[x_i] ->
            had[x_i] = 1
        :: else -> had[x_i] = 1; charge(x_i)
        fi
    };
    todo_count = 0;
    for (x_i : 0 .. N - 1) {
        if
        :: j_filed[x_i] && j_charged[x_i] -> restore(x_i)
        :: !j_filed[x_i] && x_taken[x_i] && FAULT != BARE_LAST -> send_bare(x_i)
        :: else
        fi
    };
#if FAULT == BARE_LAST
    for (x_i : 0 .. N - 1) {
        if
        :: !j_filed[x_i] && x_taken[x_i] -> send_bare(x_i)
        :: else
        fi
    };
#endif
#if FAULT != RESTORED_LAST
    put_todo_first()
#else
    x_i = 0;
    do
    :: x_i < todo_count -> outbox!todo[x_i],0; x_i++
    :: else -> break
    od
#endif
}

/* Conversation._replay, bare: nobody holds what this makes. It is simply sent if no server was given
 * it, ever; if one may have had it, it is left, and nobody asks. */
inline send_bare(i) {
    if
#if FAULT != BARE_AGAIN
    :: !c_sent[SUBMIT(i)] && !had[i] -> add_todo(SUBMIT(i))
#else
    :: !c_sent[SUBMIT(i)] -> add_todo(SUBMIT(i))
#endif
    :: else ->
        /* What no server was given is not lost. */
        assert(was_handed[i] || was_forgotten);
        ticket[i] = LOST
    fi
}

/* DataClient._opened, Conversation.opened, ClientSession.opened: the server has told which it is. */
inline opened(incarnation, handed) {
    x_changed = (incarnation != c_incarnation);
    c_incarnation = incarnation;
    c_link = OPEN;
    if
    :: client_state == CLOSED && x_changed && FAULT != CLOSED_BLINDLY -> drop_sent()
    :: client_state == SUSPENDED ->
        if
        :: x_changed -> take_journaled(handed)
        :: else
        fi;
        line_up_again();
        if
        :: x_changed -> forget_ids(); replay()
        :: else
        fi;
        client_state = CONNECTED
    :: else
    fi
}

/* A stream that is used at once: the session is still to begin. */
inline opened_unmet() {
    c_link = OPEN;
    if
    :: client_state == SUSPENDED -> line_up_again(); client_state = CONNECTED
    :: client_state == CONNECTING -> client_state = CONNECTED
    :: else
    fi
}

/* After a shutdown: what was sent before was for the server that died. */
inline drop_sent() {
    x_count = len(outbox);
    do
    :: x_count > 0 ->
        outbox?x_code,x_arg;
        if
        :: x_code < TRACKED && c_id[x_code] != 0
        :: else -> outbox!x_code,x_arg
        fi;
        x_count--
    :: else -> break
    od
}

/* DataClient._end and close(): whoever waits is told. */
inline abandon() {
    for (x_i : 0 .. N - 1) {
        if
        :: ticket[x_i] == WAITING -> ticket[x_i] = OVER
        :: else
        fi;
        if
        :: got[x_i] == WAITING -> got[x_i] = OVER
        :: else
        fi;
        if
        :: waited[x_i] == WAITING -> waited[x_i] = OVER
        :: else
        fi
    };
    if
    :: query == WAITING -> query = OVER
    :: else
    fi
}

inline give_up() {
    abandon();
    leave_stream();
    do
    :: len(outbox) > 0 -> outbox?_,_
    :: else -> break
    od;
    client_state = SESSION_LOST;
    c_link = DONE
}

inline leave_stream() {
    if
    :: clients_end[c_stream] ->
        clients_end[c_stream] = 0;
        break_link(c_stream);
        drain(to_client[c_stream])
    :: else
    fi
}

/* DataClient._stream_metadata, _first_message */
inline open_stream() {
#if FAULT != LATE_OPENS
    /* Streams are met by the proxier in the order in which they were opened. */
    opening[c_stream] = NOT_OPENING;
#endif
    c_stream = 1 - c_stream;
    clients_end[c_stream] = 1;
    ended[c_stream] = WHOLE;
    drain(to_proxier[c_stream]);
    if
    :: client_state == CONNECTING -> opening[c_stream] = OPEN_FIRST
    :: client_state != CONNECTING && c_forgotten ->
        opening[c_stream] = OPEN_ANEW;
        to_proxier[c_stream]!INIT,0,c_incarnation;
        c_link = MEETING
    :: client_state != CONNECTING && !c_forgotten && recovers ->
        opening[c_stream] = OPEN_AGAIN;
        to_proxier[c_stream]!WHO,0,c_incarnation;
        c_link = MEETING
    :: else -> opening[c_stream] = OPEN_AGAIN
    fi;
    if
    :: c_link != MEETING -> opened_unmet()
    :: else
    fi
}

/* DataClient._survives, and _still_to_say after a shutdown. */
inline stream_broke() {
    x_value = ended[c_stream];
    leave_stream();
    c_link = DOWN;
    c_forgotten = (x_value == FORGOTTEN);
    if
    :: x_value == GONE || (x_value == FORGOTTEN && !recovers) ->
        if
        :: !recovers -> was_over = 1 /* A link that breaks before the session has begun ends it. */
        :: else
        fi;
        /* A session ends for a reason only. */
        assert(has_reason);
        if
        :: client_state == CLOSED -> c_link = DONE
        :: else -> give_up()
        fi
    :: else ->
        if
        :: client_state == CLOSED
        :: else -> client_state = SUSPENDED
        fi
    fi
}

/* Conversation.take, _is_complete: after what it needs. */
inline take_next() {
    outbox?<x_code,x_arg>;
    todo_count = 0;
    x_go = 1;
    if
    :: is_get(x_code) || is_wait(x_code) ->
        restore(task_of(x_code));
        if
        :: j_lost[task_of(x_code)] && todo_count == 0 ->
            outbox?_,_;
            x_go = 0;
            c_id[x_code] = 0;
            lose_reader(x_code)
        :: else
        fi
    :: is_submit(x_code) && !j_filed[task_of(x_code)] && !NAMELESS(task_of(x_code)) ->
        if
        :: NEEDS(task_of(x_code)) -> restore_needed()
        :: else
        fi;
        if
        :: todo_count == 0 && !was_sent[task_of(x_code)] -> file(task_of(x_code))
        :: else
        fi
    :: else
    fi;
    if
    :: is_release(x_code) -> drop(task_of(x_code))
    :: else
    fi;
    if
    :: todo_count > 0 -> put_todo_first(); x_go = 0
    :: x_go -> outbox?x_code,x_arg; send()
    :: else
    fi
}

inline lose_reader(code) {
    if
    :: is_get(code) && got[task_of(code)] == WAITING -> got[task_of(code)] = LOST
    :: is_wait(code) && waited[task_of(code)] == WAITING -> waited[task_of(code)] = LOST
    :: else
    fi
}

inline send() {
    if
#if FAULT == BARE_UNTRACKED
    :: has_bare_id -> x_arg = bare_id; bare_id = 0
#endif
    :: x_code < TRACKED && !has_bare_id ->
        if
        :: c_id[x_code] == 0 ->
            c_last_id++;
            /* Ids fit into the bits of s_cached. */
            assert(c_last_id < 32);
            c_id[x_code] = c_last_id
        :: else
        fi;
        c_sent[x_code] = 1;
        if
        :: is_submit(x_code) -> was_sent[task_of(x_code)] = 1
        :: else
        fi;
        x_arg = c_id[x_code]
    :: else
    fi;
    /* What is written to a broken link goes nowhere. */
    if
    :: ended[c_stream] == WHOLE -> to_proxier[c_stream]!x_code,x_arg,c_incarnation
    :: else
    fi
}

/* Conversation.settle, ClientSession.answered */
inline strike(code) {
    c_id[code] = 0;
    if
    :: is_ordered(code) ->
        c_answers++;
        if
        :: c_answers == BATCH -> c_answers = 0; acknowledge()
        :: else
        fi
    :: else
    fi
}

inline acknowledge() {
    x_id = c_last_id;
#if FAULT != ACK_TOO_MUCH
    x_i = 1;
    do
    :: x_i < TRACKED ->
        if
        :: is_ordered(x_i) && c_id[x_i] != 0 && c_id[x_i] <= x_id -> x_id = c_id[x_i] - 1
        :: else
        fi;
        x_i++
    :: else -> break
    od;
#endif
    if
    :: x_id > 0 && len(outbox) < LINE -> outbox!ACK,x_id
    :: else
    fi
}

/* DataClient._dispatch, and the replies' done() */
inline dispatch() {
    to_client[c_stream]?x_code,x_id,x_value;
    if
    :: c_link == MEETING ->
        c_forgotten = 0;
#if FAULT != HANDED_IGNORED
        x_handed = (x_code == INIT || x_id == 0 -> UNKNOWN_HANDED : x_id);
#else
        x_handed = UNKNOWN_HANDED;
#endif
        opened(x_value, x_handed)
    :: c_link == OPEN && x_code < TRACKED && x_id != 0 && c_id[x_code] == x_id && !c_ended ->
        strike(x_code);
#if FAULT == HANDED_LATE
        p_handed = (x_id > p_handed -> x_id : p_handed);
#endif
        x_i = task_of(x_code);
        if
        :: is_submit(x_code) ->
            if
            :: ticket[x_i] == WAITING -> ticket[x_i] = (x_value == FAILED -> LOST : ANSWERED)
            :: else
            fi
        :: is_get(x_code) && x_value == FAILED -> got[x_i] = LOST
        :: is_get(x_code) && x_value != FAILED ->
            /* A value that was seen stays what it was. */
            assert(j_seen[x_i] == 0 || j_seen[x_i] == x_value);
            j_seen[x_i] = x_value;
            j_finished[x_i] = 1;
            got[x_i] = ANSWERED
        :: is_wait(x_code) -> j_finished[x_i] = 1; waited[x_i] = ANSWERED
        :: x_code == QUERY ->
            /* The answer to a request is that request's. */
            assert(x_value == queries);
            query = ANSWERED
        :: x_code == INIT -> c_incarnation = x_value; j_incarnation = x_value
        :: else
        fi
    :: else
    fi
}

#define has_still_to_say (client_state == CLOSED && recovers && len(outbox) > 0)
#define can_open \
    (c_link == DOWN && (client_state < SESSION_LOST || has_still_to_say) \
     && proxier_up && !clients_end[1 - c_stream] && opening[1 - c_stream] == NOT_OPENING \
     && handler[1 - c_stream] == NO_HANDLER)
#define can_send \
    (c_link == OPEN && client_state != EXITED && len(outbox) > 0 && len(to_proxier[c_stream]) < ROOM)
#define uses_stream (c_link == MEETING || c_link == OPEN)
