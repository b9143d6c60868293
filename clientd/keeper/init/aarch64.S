// The init of a task on aarch64: see __init__.py, and x86_64.S, which this follows step by step.
// A system call: its number in x8; what it is given in x0 to x3; only x0 is not as it was
// afterwards.  x19 is the stack as we found it: argc, argv, 0, environment, 0.

start:  mov     x19, sp
        mov     x8, 135                 // rt_sigprocmask(SIG_SETMASK, &all, 0, 8)
        mov     x0, 2
        adr     x1, all
        mov     x2, 0
        mov     x3, 8
        svc     0
        mov     w20, 0                  // FORK
        mov     x0, 17                  // clone(SIGCHLD, 0, 0, 0, 0)
        mov     x1, 0
        mov     x2, 0
        mov     x3, 0
        mov     x4, 0
        mov     x8, 220
        svc     0
        cmp     w0, 0
        b.lt    fail
        b.eq    child

        mov     x0, 0                   // dup3(0, 1, 0), dup3(0, 2, 0): the log is the task's
        mov     x1, 1
        mov     x2, 0
        mov     x8, 24
        svc     0
        mov     x0, 0
        mov     x1, 2
        svc     0
        mov     x0, 3                   // close(3), close(4)
        mov     x8, 57
        svc     0
        mov     x0, 4
        svc     0
        sub     sp, sp, 128

reap:   mov     x8, 260                 // wait4(any child, &status, WNOHANG, 0)
        mov     x0, -1
        mov     x1, sp
        mov     x2, 1
        mov     x3, 0
        svc     0
        cmp     w0, 0                   // nobody has ended
        b.le    wait
        cmp     w0, 2                   // an orphan has
        b.ne    reap
        ldr     w1, [sp]                // the program has
        ands    w2, w1, 127
        b.eq    code
        add     w0, w2, 128             // by a signal
        b       exit
code:   lsr     w0, w1, 8
exit:   mov     x8, 94                  // exit_group(code)
        svc     0

wait:   mov     x8, 137                 // rt_sigtimedwait(&all, &info, 0, 8)
        adr     x0, all
        mov     x1, sp
        mov     x2, 0
        mov     x3, 8
        svc     0
        cmp     w0, 17                  // SIGCHLD
        b.eq    reap
        cmp     w0, 18                  // SIGCONT is for us alone: it ends a freeze
        b.eq    wait
        cmp     w0, 0
        b.le    wait
        mov     w1, w0                  // kill(the program's group, signal)
        mov     x0, -2
        mov     x8, 129
        svc     0
        b       wait

child:  mov     x8, 157                 // setsid()
        svc     0
        mov     x8, 135                 // rt_sigprocmask(SIG_SETMASK, &none, 0, 8)
        mov     x0, 2
        adr     x1, none
        mov     x2, 0
        mov     x3, 8
        svc     0
        ldr     x0, [x19, 16]           // argv[1]: u, or something else
        ldrb    w0, [x0]
        cmp     w0, 'u'
        b.ne    enter
        mov     w20, 1                  // LOWER
        mov     x8, 91                  // capset(&version, &none): ambient ones go, too
        ldr     x0, version
        str     x0, [sp, -16]!
        mov     x0, sp
        adr     x1, none
        svc     0
        cbnz    w0, fail
enter:  mov     w20, 2                  // ENTER
        mov     x8, 49                  // chdir(argv[2])
        ldr     x0, [x19, 24]
        svc     0
        cbnz    w0, fail
        mov     x0, 3                   // fcntl(3, F_SETFD, FD_CLOEXEC), and of 4
        mov     x1, 2
        mov     x2, 1
        mov     x8, 25
        svc     0
        mov     x0, 4
        svc     0
        mov     x8, 64                  // write(3, &ready, 1)
        mov     x0, 3
        adr     x1, ready
        svc     0
        mov     x8, 63                  // read(4, somewhere, 1)
        mov     x0, 4
        sub     x1, sp, 16
        svc     0
        cmp     w0, 1                   // nobody is there any more who could say so
        b.ne    quit
        mov     w20, 3                  // EXECUTE
        ldr     x2, [x19]
        ldr     x0, [x19, 32]           // execve(argv[3], &argv[4], environment)
        add     x1, x19, 40
        add     x2, x19, x2, lsl 3
        add     x2, x2, 16
        mov     x8, 221
        svc     0

fail:   neg     w0, w0                  // write(3, what and errno, 8)
        stp     w20, w0, [sp, -16]!
        mov     x1, sp
        mov     x8, 64
        mov     x0, 3
        mov     x2, 8
        svc     0
quit:   mov     x0, 127
        b       exit

        .balign 8
all:    .quad   -1
none:   .quad   0, 0, 0
version:
        .long   0x20080522, 0
ready:  .byte   1
