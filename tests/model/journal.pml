/* What the client would have to submit again: session/journal.py, and what session/conversation.py
 * makes of its decisions. An entry a task, whose name is the task's number. */

/* How the user's calls stand: the ticket of each task, each get, each wait, the newest query. */
#define IDLE     0
#define WAITING  1
#define ANSWERED 2
#define LOST     3 /* told that the task may not be run again */
#define OVER     4 /* told that the session has ended */
byte ticket[N], got[N], waited[N], query;
byte queries; /* how many there were */

bit j_filed[N];    /* there is an entry */
bit j_lost[N];     /* Entry.lost */
byte j_left[N];    /* Entry.retries */
byte j_given[N];   /* Entry.incarnation */
byte j_seen[N];    /* the value in Journal._values; 0: not seen */
bit j_finished[N]; /* Entry.finished */
bit j_charged[N];  /* Entry._charged */
byte j_incarnation = 1;

#define may_run(i) (!released[i] || !was_handed[i] || (NEEDS(1) && (i) == NEEDED && !released[1]))

hidden byte todo[2 * N], todo_count; /* the requests that restore something, in their order */

inline add_todo(code) {
    /* What was released is not run again, unless something else needs it. */
    assert(!is_submit(code) || may_run(task_of(code)));
    c_sent[code] = 0;
    todo[todo_count] = code;
    todo_count++
}

/* Journal._lose, Conversation._tell_lost */
inline lose(i) {
    j_lost[i] = 1;
    if
    :: ticket[i] == WAITING -> ticket[i] = LOST
    :: else
    fi
}

/* Journal._charge */
inline charge(i) {
    if
    :: j_charged[i]
    :: else ->
        j_charged[i] = 1;
        if
        :: j_left[i] == 0 ->
            /* What no server was given is not lost. */
            assert(was_handed[i] || was_forgotten);
            lose(i)
        :: else ->
#if FAULT != BUDGET_UNCOUNTED
            j_left[i]--
#else
            skip
#endif
        fi
    fi
}

#define is_kept(i) (j_filed[i] && !j_lost[i])
/* Whether there is anything to do so that the present server has task i's value. */
#define is_missing(i) (is_kept(i) && j_given[i] != j_incarnation)

/* Journal._put_values, for one that has_value. */
#if FAULT != SEEN_RUN_AGAIN
#define has_value(i) (j_seen[i] != 0)
#else
#define has_value(i) (0)
#endif

inline restore_needed() {
    if
    :: is_missing(NEEDED) ->
        if
        :: has_value(NEEDED) -> add_todo(PUT(NEEDED)); j_given[NEEDED] = j_incarnation
        :: else ->
            charge(NEEDED);
            if
            :: j_lost[NEEDED]
            :: else -> add_todo(SUBMIT(NEEDED)); j_given[NEEDED] = j_incarnation
            fi
        fi
    :: else
    fi
}

/* Journal._restore */
inline restore(i) {
    if
    :: is_missing(i) && has_value(i) -> add_todo(PUT(i)); j_given[i] = j_incarnation
    :: is_missing(i) && !has_value(i) ->
        charge(i);
        if
        :: !j_lost[i] && NEEDS(i) -> restore_needed()
        :: else
        fi;
        if
        :: j_lost[i]
        :: !j_lost[i] && NEEDS(i) && j_lost[NEEDED] -> lose(i)
        :: else -> add_todo(SUBMIT(i)); j_given[i] = j_incarnation
        fi
    :: else
    fi
}

/* Journal.drop: forgotten with all that only it needs. */
inline drop(i) {
    if
    :: i == NEEDED && NEEDS(1) && j_filed[1]
    :: else -> j_filed[i] = 0
    fi;
    if
    :: NEEDS(i) && released[NEEDED] -> j_filed[NEEDED] = 0
    :: else
    fi
}

/* Conversation._file, Journal.record */
inline file(i) {
    j_filed[i] = 1;
    j_left[i] = RETRIES(i);
    j_given[i] = j_incarnation
}
