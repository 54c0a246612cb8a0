/* The session protocol of Ray Client's fork: one client, its proxier, and the specific servers that
 * the session has one after the other. Checked by spin; check.py holds the configurations.
 *
 * Each process stands for one party, each of its steps for what that party does at one go: the
 * client's core under its lock, the proxier between two awaits of its event loop, a server between
 * two requests. Between any two steps the world may break a link, kill a server, and so on, within
 * the bounds below. Time is left out: a grace period may end at any moment in which it runs.
 *
 * docs/reliability.md says what is modelled, what is not, and what is promised.
 */

/* -- Faults that the check must catch: what the design rests on, broken; ... */

#define NONE             0
#define NO_FENCING       1 /* the proxier passes on calls that are meant for an earlier server */
#define CACHED_INIT      2 /* the reserved init goes through the response cache */
#define BUDGET_UNCOUNTED 3 /* running a task again costs no retry */
#define NOT_REAPED       4 /* the next server is created while the last one may still live */
#define HANDED_IGNORED   5 /* the client does not look at what was handed to servers */
#define HANDED_LATE      6 /* the proxier notes what was answered, not what it passes on */
#define ACK_TOO_MUCH     7 /* the client acknowledges what it has no answer to */
#define ACK_UNREAD       8 /* the server does not drop what was acknowledged */
#define NO_CACHE         9 /* the server does not know requests that it has answered */
#define STREAM_KEPT     10 /* a stream survives its server and goes on with the next one */
#define RESTORED_LAST   11 /* what is restored stands in line behind newer calls */
#define LOST_WAKEUP     12 /* a stream that waits for a server is not told that there is one */
#define SEEN_RUN_AGAIN  13 /* a value that was seen is computed anew, not put */
#define LEFT_RUNNING    14 /* a session's end leaves its server behind */
#define RELEASE_UNREAD  15 /* what was released is run again if the server did not hear of it */

/* ... what this model has found in the code; ... */

#define OLD_IDS         20 /* gets keep their ids over a death; what they need gets newer ones */
#define CLOSED_BLINDLY  21 /* a shutdown says the rest without asking who listens */
#define NOTHING_HANDED  22 /* before any request the proxier does not tell what it passed on */
#define BARE_UNTRACKED  23 /* nameless requests are sent again under an id that nobody awaits */
#define BARE_LAST       24 /* nameless requests are sent again behind named ones */
#define BARE_AGAIN      25 /* what was released is sent again if only the last server missed it */
#define RELEASED_EARLY  26 /* a release counts before submissions that stand in line before it */
#define NEW_TAKEN       27 /* a session that has not begun is in the way of the one that is to */

/* ... and what the design does not bear. */

#define LATE_OPENS      30 /* streams are met in another order than they were opened in */

#ifndef FAULT
#define FAULT NONE
#endif

/* -- Bounds. */

#ifndef N
#define N 2 /* tasks */
#endif
#ifndef KILLS
#define KILLS 0 /* deaths of servers */
#endif
#ifndef BREAKS
#define BREAKS 0 /* broken links */
#endif
#ifndef RESTARTS
#define RESTARTS 0 /* deaths of the proxier, each followed by another one */
#endif
#ifndef STALLS
#define STALLS 0 /* servers that do not come up in time */
#endif
#ifndef EXITS
#define EXITS 0 /* whether the client's process may die */
#endif
#ifndef SHUTDOWNS
#define SHUTDOWNS 0 /* whether the user may shut the session down at any moment */
#endif
#ifndef GRACE_ENDS
#define GRACE_ENDS 0 /* whether grace periods may end */
#endif
#ifndef FROM_START
#define FROM_START 0 /* whether the session is still to begin */
#endif
#ifndef UNARY
#define UNARY 0 /* whether there is a call beside the data stream */
#endif
#ifndef BATCH
#define BATCH 2 /* ACKNOWLEDGE_BATCH_SIZE: so many answers to an acknowledgement; 32 in the code */
#endif
#ifndef ROOM
#define ROOM 2 /* messages under way on a link, each direction */
#endif
/* What the user does. */
#define TOGETHER 1 /* everything at once */
#define APART    2 /* two threads: one task and its get, and another one */
#define IN_TURN  3 /* the second task comes after the first one's value was seen */
#define UNSEEN   4 /* the second task comes when the first has finished; both are then got */
#define UNASKED  5 /* nobody asks for values */
#define RELEASED 6 /* the first task's reference is dropped, whatever became of it */
#define LASTING  7 /* many questions, one after the other */
#define QUESTIONS 8
#ifndef PROGRAM
#define PROGRAM TOGETHER
#endif
/* How many answers a server keeps at most. Between two acknowledgements there is a batch of them, and
 * each broken stream may take one acknowledgement with it. */
#if PROGRAM == LASTING
#define CACHE_BOUND (BATCH * (1 + BREAKS))
#else
#define CACHE_BOUND (3 * N + 1) /* all that there are */
#endif
/* How often tasks may be run again: max_retries. */
#ifndef RETRIES_0
#define RETRIES_0 0
#endif
#ifndef RETRIES_1
#define RETRIES_1 1
#endif
#ifndef NEEDY
#define NEEDY 0 /* whether task 1 takes the value of task 0 */
#endif
#ifndef NAMELESS_0
#define NAMELESS_0 0 /* whether task 0 returns nothing (num_returns=0), so that it has no name */
#endif

#define RETRIES(i) ((i) == 0 -> RETRIES_0 : RETRIES_1)
#define NAMELESS(i) (NAMELESS_0 && (i) == 0)
#define NEEDS(i) (NEEDY && (i) == 1)
#define NEEDED 0
#define LEAST_RETRIES(i) (NEEDS(i) && RETRIES(NEEDED) < RETRIES(i) -> RETRIES(NEEDED) : RETRIES(i))

/* -- What has happened, for the judgement alone. What each assertion promises stands above it,
 *    and is what a failing check names. */

bit was_handed[N]; /* the task was passed on to a server */
bit was_forgotten; /* a proxier died, and with it the knowledge of what it had passed on */
bit released[N];   /* the user holds no reference any more */
byte deaths;       /* of servers and proxiers, all that are to come */
bit was_over;      /* a grace period has ended, or the session could not be begun */
#define has_reason (was_over || client_state == CLOSED || client_state == EXITED)

#include "wire.pml"
#include "journal.pml"
#include "client.pml"
#include "proxier.pml"
#include "server.pml"
#include "unary.pml"
#include "world.pml"

/* -- The parties, and all that each may do next. */

proctype client() {
end:
    do
    :: d_step { can_open -> open_stream() }
    :: d_step { can_send -> take_next() }
    :: d_step { uses_stream && len(to_client[c_stream]) > 0 -> dispatch() }
    :: d_step { uses_stream && ended[c_stream] != WHOLE -> stream_broke() }
    :: d_step { GRACE_ENDS && client_state == SUSPENDED -> was_over = 1; give_up() }
       /* After a shutdown, when there is nothing left to say or no time to say it. */
    :: d_step { client_state == CLOSED && c_link == DOWN -> c_link = DONE }
    :: d_step { client_state == CLOSED && c_link == MEETING -> leave_stream(); c_link = DONE }
    od
}

/* What the proxier does for one stream of the client ... */
proctype handlers(byte stream) {
end:
    do
    :: d_step { proxier_up && opening[stream] != NOT_OPENING -> accept(stream) }
    :: d_step { has_turn(stream) && p_state == NEW && len(to_proxier[stream]) > 0 -> begin(stream) }
    :: d_step { has_turn(stream) && has_server -> carry(stream) }
    :: d_step { can_pass(stream) -> pass_on(stream) }
    :: d_step { can_drop(stream) -> drop_next(stream) }
    :: d_step { can_end(stream) -> detach(stream) }
    od
}

/* ... and for the session. */
proctype proxier() {
end:
    do
    :: d_step { GRACE_ENDS && p_grace -> was_over = 1; end_session(P_EXPIRED) }
    :: d_step { p_terminate -> terminate() }
    :: d_step { p_start == TO_CREATE -> create() }
    :: d_step { p_start == TO_ANSWER && s_alive -> initialise() }
    :: d_step { p_start == TO_ANSWER && !s_alive -> start_anew() }
    :: d_step { p_start == TO_ANSWER && !s_alive && p_state == STARTING -> start_failed() }
    :: d_step { p_start == TO_ANSWER && s_alive && stalls > 0 -> time_out() }
    :: d_step { p_start == TO_DISPOSE -> dispose() }
    :: d_step { p_is_up && !s_alive -> note_exit() }
    od
}

proctype server() {
end:
    do
    :: d_step { s_alive && s_initialised && s_next != NO_STREAM -> attach_to_server() }
    :: d_step { is_serving && len(to_server[s_stream]) > 0 && can_answer -> serve() }
    od
}

/* Tasks come to an end, and whoever has asked is told. */
proctype task(byte i) {
end:
    do
    :: d_step { is_serving && s_getting[i] && can_answer -> tell_value(i) }
    :: d_step { is_serving && s_waiting[i] && can_answer -> tell_ready(i) }
    od
}

/* The user's program. */
proctype user() {
    byte asked;
    is_begun || c_ended;
#if PROGRAM == TOGETHER
    d_step { submit(0); submit(1); get(0); get(1); ask() }
#elif PROGRAM == APART
    d_step { submit(0); get(0) };
    d_step { submit(1); get(1) }
#elif PROGRAM == IN_TURN
    d_step { submit(0); get(0) };
    got[0] != WAITING;
    d_step { submit(1); get(1) }
#elif PROGRAM == UNSEEN
    d_step { submit(0); wait(0) };
    waited[0] != WAITING;
    d_step { submit(1); get(1); get(0) }
#elif PROGRAM == UNASKED
    d_step { submit(0); submit(1); ask() }
#elif PROGRAM == RELEASED
    d_step { submit(0); submit(1); get(1) };
    d_step { release(0) }
#elif PROGRAM == LASTING
    for (asked : 1 .. QUESTIONS) {
        d_step { ask() };
        query != WAITING
    }
#endif
}

proctype world() {
end:
    do
    :: d_step { kills > 0 && s_alive -> kills--; server_dies() }
    :: d_step { breaks > 0 && uses_stream && ended[c_stream] == WHOLE -> break_one() }
    :: d_step { restarts > 0 && proxier_up -> restarts--; proxier_dies() }
    :: d_step { !proxier_up -> proxier_up = 1 }
    :: d_step { exits > 0 && client_state != EXITED -> client_exits() }
    :: d_step { shutdowns > 0 && is_begun -> shutdowns--; shut_down() }
    od
}

proctype caller() {
end:
    do
    :: d_step { can_call -> make_call() }
    :: d_step { call == WAITING && c_ended -> call = OVER }
    :: d_step { call_is == AT_PROXIER && proxier_up -> pass_call() }
    :: d_step { is_at_server -> do_call() }
    :: d_step { call_is == AT_SERVER && !is_at_server -> call_is = NOWHERE }
    od
}

/* When nothing can happen any more. Nobody waits for a nameless task, but it is to run. */
proctype judge() {
    byte j;
end:
    timeout;
    for (j : 0 .. N - 1) {
        /* Every call ends. */
        assert(got[j] != WAITING && waited[j] != WAITING
            && (ticket[j] != WAITING || (NAMELESS(j) && runs[j] == 1)));
        /* Nothing is lost while budgets last and the session goes on. */
        assert(has_reason || (ticket[j] != OVER && got[j] != OVER && waited[j] != OVER));
        assert(has_reason || released[j] || deaths > LEAST_RETRIES(j)
            || (ticket[j] != LOST && got[j] != LOST))
    };
    /* Every call ends. */
    assert(query != WAITING && call != WAITING);
    /* Nothing is lost while budgets last and the session goes on. */
    assert(query != OVER || has_reason);
    if
    :: c_ended ->
        /* A session's end leaves no server behind. */
        assert((p_ended || p_state == NO_SESSION) && !s_alive)
    :: else ->
        /* In the end client, proxier and server agree. */
        assert(client_state == CONNECTED && c_incarnation == p_incarnation
            && p_state == SERVING && s_alive && s_incarnation == p_incarnation)
    fi
}

init {
    atomic {
        choose(kills, KILLS);
        choose(breaks, BREAKS);
        choose(restarts, RESTARTS);
        choose(stalls, STALLS);
        choose(exits, EXITS);
        choose(shutdowns, SHUTDOWNS);
        deaths = kills + restarts;
        begin_session();
        run client();
        run proxier();
        run handlers(0);
        run handlers(1);
        run server();
        run task(0);
        run task(1);
        run user();
        run world();
        run caller();
        run judge()
    }
}

#ifdef FAIR
/* With every party getting its turns: calls end although they may be made again and again. */
#define nobody_waits \
    (ticket[0] != WAITING && ticket[1] != WAITING && got[0] != WAITING && got[1] != WAITING \
     && waited[0] != WAITING && waited[1] != WAITING && query != WAITING && call != WAITING)
ltl every_call_ends { <> [] nobody_waits }
#endif
