# A part of _native.pyx: signals that come during a step, and waiting that no signal ends.
#
# A step releases the GIL and may last for minutes. The core asks this watcher meanwhile, in the thread that called, so
# that handlers run in the main thread as ever and an exception of theirs (Ctrl-C) ends the step, synchronously: when
# the exception is seen, nothing works on behind it.
import os
import sys
import threading

from cpython.pythread cimport PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, WAIT_LOCK

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept  # -1: a handler raised, and the exception is set
    unsigned long PyThread_get_thread_ident() noexcept nogil
    int PyThread_acquire_lock_timed(void *lock, long long microseconds, int intr_flag) noexcept nogil

cdef unsigned long main_thread = threading.main_thread().ident


cdef int handle_signals() noexcept nogil:
    if PyThread_get_thread_ident() != main_thread:
        return 0
    with gil:
        return PyErr_CheckSignals()


def _forked():
    global main_thread
    main_thread = PyThread_get_thread_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
pgg_watch(handle_signals)


def wait_empty(set things not None, double seconds=-1.0, but=None):
    cdef double left = seconds
    cdef void *never = PyThread_allocate_lock()
    if never == NULL:
        raise _errors.OutOfMemory("no memory for a lock")
    PyThread_acquire_lock(never, WAIT_LOCK)
    try:
        while len(things) > (1 if but in things else 0):
            if (seconds >= 0.0 and left <= 0.0) or sys.is_finalizing():  # then threads stand still for good
                return False
            with nogil:
                PyThread_acquire_lock_timed(never, 1000, 0)  # a nap of a millisecond that no signal ends
            left -= 0.001
        return True
    finally:
        PyThread_free_lock(never)


cdef class Ended:
    """A with-block of one thread beside, whose end is compiled code: no Ctrl-C comes before what ends the thread.

    finish(None) ends it, working it empties when it touches nothing more; then comes self.ended(error or None).
    """
    cdef object _finish
    cdef set _working

    def __init__(self, finish, set working not None):
        self._finish, self._working = finish, working

    def __exit__(self, kind, error, trace):
        self._finish(None)
        wait_empty(self._working)
        self.ended(error)
