/* What happens to the session: its user's program, and the faults. */

byte kills, breaks, restarts, stalls, exits, shutdowns; /* how many are still to come */
inline choose(faults, most) {
    do
    :: faults < most -> faults++
    :: break
    od
}

/* -- The user: calls that the client takes on, or turns away at once. */

inline submit(i) {
    if
    :: c_ended -> ticket[i] = OVER
    :: else -> ticket[i] = WAITING; outbox!SUBMIT(i),0
    fi
}

/* NamedObjects.get: what is known is not asked for. */
inline get(i) {
    if
    :: j_seen[i] != 0 -> got[i] = ANSWERED
    :: j_seen[i] == 0 && j_lost[i] -> got[i] = LOST
    :: j_seen[i] == 0 && !j_lost[i] && c_ended -> got[i] = OVER
    :: else -> got[i] = WAITING; outbox!GET(i),0
    fi
}

inline wait(i) {
    if
    :: j_lost[i] -> waited[i] = LOST
    :: !j_lost[i] && c_ended -> waited[i] = OVER
    :: else -> waited[i] = WAITING; outbox!WAIT(i),0
    fi
}

/* The name is not used after this. */
inline release(i) {
    released[i] = 1;
    if
    :: c_ended
    :: else -> outbox!RELEASE(i),0
    fi
}

/* One at a time. */
inline ask() {
    if
    :: c_ended -> query = OVER
    :: else -> query = WAITING; queries++; outbox!QUERY,0
    fi
}

#define is_begun recovers
inline begin_session() {
#if FROM_START
    outbox!INIT,0
#else
    clients_end[0] = 1;
    handler[0] = BRIDGE;
    bridged_to[0] = 1;
    s_alive = 1;
    s_initialised = 1;
    s_incarnation = 1;
    s_stream = 0
#endif
}

/* DataClient.close: what stands in line is still sent. */
inline shut_down() {
    if
    :: client_state < SESSION_LOST -> abandon(); client_state = CLOSED; outbox!CLEANUP,0
    :: else
    fi
}

/* -- Faults. */

inline break_one() {
    breaks--;
    break_link(c_stream)
}

inline client_exits() {
    exits--;
    give_up();
    client_state = EXITED
}
