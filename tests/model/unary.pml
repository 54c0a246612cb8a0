/* A call beside the data stream: unary.py, server/proxy/unary.py. It carries the incarnation that
 * the client believed in when it was made, and may be under way for long. */

#define NOWHERE 0
#define AT_PROXIER 1
#define AT_SERVER 2
byte call = (UNARY -> WAITING : IDLE);
byte call_is = NOWHERE;
byte call_for; /* the incarnation that it carries */
byte call_at;  /* the incarnation of the server that it was passed on to */
#define is_at_server (call_is == AT_SERVER && s_initialised && s_incarnation == call_at)

#define can_call \
    (call == WAITING && call_is == NOWHERE && client_state == CONNECTED && recovers)

/* call_over_gaps */
inline make_call() {
    call_for = c_incarnation;
    call_is = AT_PROXIER
}

/* SessionTable.find, Driver._forward. What is refused is made again. */
inline pass_call() {
    call_is = NOWHERE;
    call_at = p_incarnation;
    if
#if FAULT != NO_FENCING
    :: p_is_up && s_alive && call_for == p_incarnation -> call_is = AT_SERVER
#else
    :: p_is_up && s_alive -> call_is = AT_SERVER
#endif
    :: else
    fi
}

inline do_call() {
    /* A stale incarnation is refused. */
    assert(call_for == s_incarnation);
    call_is = NOWHERE;
    call = ANSWERED
}
