/* The session's present specific server: server/sessions.py and server/datapath.py, and the
 * response cache of cache/_python.py. A process is a set of variables that begin anew with each
 * incarnation; create_server checks that there is one at a time at most. */

bit s_alive;
bit s_initialised;
byte s_incarnation;
byte s_stream = NO_STREAM; /* the stream that it serves */
byte s_next = NO_STREAM;   /* the one that is to take over */
/* The cache: ids with an answer, and the id up to which they were acknowledged. */
int s_cached;
byte s_acknowledged;
byte s_value[N];   /* what tasks came to: which of their runs it was; 0: nothing is there */
byte s_getting[N], s_waiting[N]; /* under what ids tasks' values are asked for */
byte s_newest;     /* the task that was submitted last, counted from 1 */
byte runs[N];      /* of each task, on all servers together */
byte s_queried; /* the newest query that was answered; 0: none was */

inline create_server(incarnation) {
    /* Two incarnations never live at once. */
    assert(!s_alive);
    s_alive = 1;
    s_incarnation = incarnation
}

inline server_dies() {
    drain(to_server[0]);
    drain(to_server[1]);
    for (w_count : 0 .. N - 1) {
        s_value[w_count] = 0;
        s_getting[w_count] = 0;
        s_waiting[w_count] = 0
    };
    s_alive = 0;
    s_initialised = 0;
    s_stream = NO_STREAM;
    s_next = NO_STREAM;
    s_cached = 0;
    s_acknowledged = 0;
    s_newest = 0;
    s_queried = 0
}

/* DataServicer._attach, Sessions.attach: the stream before is superseded, its inbox closed. */
inline attach_to_server() {
    if
    :: s_stream != NO_STREAM && s_stream != s_next -> drain(to_server[s_stream])
    :: else
    fi;
    for (w_count : 0 .. N - 1) {
        s_getting[w_count] = 0;
        s_waiting[w_count] = 0
    };
    s_stream = s_next;
    s_next = NO_STREAM
}

/* What goes to a client that has left, into a broken link, or to a bridge that is no more, is lost. */
#define is_heard (handler[s_stream] == BRIDGE && ended[s_stream] == WHOLE && clients_end[s_stream])
#define can_answer (!is_heard || len(to_client[s_stream]) < ROOM)
inline answer(code, id, value) {
    if
    :: is_heard -> to_client[s_stream]!code,id,value
    :: else
    fi
}

/* DataStream._done_once, OrderedResponseCache.check_cache and update_cache. A crash in the midst of
 * a request takes the cache with it, so that running and keeping the answer are one step. */
inline done_once(code, id) {
    /* No answer that was acknowledged is needed again, and nothing is refused as stale. */
    assert(id > s_acknowledged);
    if
#if FAULT != NO_CACHE
    :: s_cached & (1 << id)
#endif
    :: else ->
        perform(code);
        s_cached = s_cached | (1 << id);
        count_cached();
        /* Answers that are kept are bounded. */
        assert(w_count <= CACHE_BOUND)
    fi;
    if
    :: is_submit(code) -> answer(code, id, s_value[task_of(code)])
    :: code == QUERY -> answer(code, id, s_queried)
    :: else -> answer(code, id, 0)
    fi
}

inline count_cached() {
    w_count = 0;
    for (w_from : 1 .. 31) {
        if
        :: s_cached & (1 << w_from) -> w_count++
        :: else
        fi
    }
}

inline perform(code) {
    if
    :: is_submit(code) -> run_task(task_of(code))
    :: is_put(code) -> s_value[task_of(code)] = j_seen[task_of(code)]
    :: is_release(code) -> s_value[task_of(code)] = 0
    :: code == QUERY ->
        /* A server carries a request out once, however often it is sent. */
        assert(s_queried != queries);
        s_queried = queries
    :: else
    fi
}

/* Scheduler.submit. That tasks take time to run is in the answers to gets, which take their time. */
inline run_task(i) {
    /* A server carries a request out once, however often it is sent. */
    assert(s_value[i] == 0);
    if
    :: NEEDS(i) && (s_value[NEEDED] == 0 || s_value[NEEDED] == FAILED) ->
        /* What a request needs is there, or known to be lost. */
        assert(j_lost[NEEDED] || c_ended);
        s_value[i] = FAILED
    :: else ->
        /* A value that was seen stays what it was. */
        assert(!NEEDS(i) || j_seen[NEEDED] == 0 || j_seen[NEEDED] == s_value[NEEDED]);
        runs[i]++;
        /* Nothing is run more often than the user allows. */
        assert(runs[i] <= 1 + (NAMELESS(i) -> 0 : RETRIES(i)));
        s_value[i] = runs[i];
        /* Order is kept, but for what had finished and is only restored when it is needed. */
        assert(i + 1 > s_newest || j_finished[i] || c_ended);
        s_newest = i + 1
    fi
}

/* DataStream._answer */
inline serve() {
    to_server[s_stream]?w_code,w_id,w_from;
    /* What was meant for another incarnation is not done by this one. */
    assert(w_code == WHO || w_code == INIT || w_from == s_incarnation);
    if
    :: w_code == WHO -> answer(WHO, p_handed, s_incarnation)
    :: w_code == INIT -> answer(INIT, w_id, s_incarnation) /* _init: accepted already */
    :: w_code == ACK ->
        if
        :: w_id > s_acknowledged ->
            s_acknowledged = w_id;
#if FAULT != ACK_UNREAD
            s_cached = s_cached & ~((1 << (w_id + 1)) - 1)
#endif
        :: else
        fi
    :: w_code == CLEANUP
    :: is_get(w_code) || is_wait(w_code) ->
        /* What a request needs is there, or known to be lost. */
        assert(s_value[task_of(w_code)] != 0 || c_ended);
        if
        :: is_get(w_code) -> s_getting[task_of(w_code)] = w_id
        :: else -> s_waiting[task_of(w_code)] = w_id
        fi
    :: else ->
        done_once(w_code, w_id)
    fi
}

/* ... gets and waits are answered whenever their objects are ready. */
inline tell_value(i) {
    w_id = s_getting[i];
    s_getting[i] = 0;
    answer(GET(i), w_id, s_value[i])
}

inline tell_ready(i) {
    w_id = s_waiting[i];
    s_waiting[i] = 0;
    answer(WAIT(i), w_id, 0)
}

#define is_serving (s_alive && s_initialised && s_stream != NO_STREAM)
