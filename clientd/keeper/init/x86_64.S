# The init of a task on x86_64: see __init__.py.
# A system call: its number in eax; what it is given in rdi, rsi, rdx, r10; only rax, rcx and r11
# are not as they were afterwards.  r12 is the stack as we found it: argc, argv, 0, environment, 0.

        .intel_syntax noprefix
start:  mov     r12, rsp
        mov     eax, 14                 # rt_sigprocmask(SIG_SETMASK, &all, 0, 8)
        mov     edi, 2
        lea     rsi, [rip + all]
        xor     edx, edx
        mov     r10d, 8
        syscall
        xor     r13d, r13d              # what is tried, told when it fails: FORK
        mov     eax, 57                 # fork()
        syscall
        test    eax, eax
        js      fail
        jz      child

        xor     edi, edi                # dup2(0, 1), dup2(0, 2): the log is the task's
        mov     esi, 1
        mov     eax, 33
        syscall
        mov     esi, 2
        mov     eax, 33
        syscall
        mov     edi, 3                  # close(3), close(4)
        mov     eax, 3
        syscall
        mov     edi, 4
        mov     eax, 3
        syscall
        sub     rsp, 128

reap:   mov     eax, 61                 # wait4(any child, &status, WNOHANG, 0)
        mov     rdi, -1
        mov     rsi, rsp
        mov     edx, 1
        xor     r10d, r10d
        syscall
        test    eax, eax                # nobody has ended
        jle     wait
        cmp     eax, 2                  # an orphan has
        jne     reap
        mov     edi, [rsp]              # the program has
        mov     eax, edi
        and     eax, 127
        jz      code
        lea     edi, [rax + 128]        # by a signal
        jmp     exit
code:   shr     edi, 8
exit:   mov     eax, 231                # exit_group(code)
        syscall

wait:   mov     eax, 128                # rt_sigtimedwait(&all, &info, 0, 8)
        lea     rdi, [rip + all]
        mov     rsi, rsp
        xor     edx, edx
        mov     r10d, 8
        syscall
        cmp     eax, 17                 # SIGCHLD
        je      reap
        cmp     eax, 18                 # SIGCONT is for us alone: it ends a freeze
        je      wait
        test    eax, eax
        jle     wait
        mov     esi, eax                # kill(the program's group, signal)
        mov     rdi, -2
        mov     eax, 62
        syscall
        jmp     wait

child:  mov     eax, 112                # setsid()
        syscall
        mov     eax, 14                 # rt_sigprocmask(SIG_SETMASK, &none, 0, 8)
        mov     edi, 2
        lea     rsi, [rip + none]
        xor     edx, edx
        mov     r10d, 8
        syscall
        mov     rax, [r12 + 16]         # argv[1]: u, or something else
        cmp     byte ptr [rax], 'u'
        jne     enter
        mov     r13d, 1                 # LOWER
        mov     eax, 126                # capset(&version, &none): ambient ones go, too
        lea     rdi, [rip + version]
        lea     rsi, [rip + none]
        syscall
        test    eax, eax
        jnz     fail
enter:  mov     r13d, 2                 # ENTER
        mov     eax, 80                 # chdir(argv[2])
        mov     rdi, [r12 + 24]
        syscall
        test    eax, eax
        jnz     fail
        mov     edi, 3                  # fcntl(3, F_SETFD, FD_CLOEXEC), and of 4
        mov     esi, 2
        mov     edx, 1
        mov     eax, 72
        syscall
        mov     edi, 4
        mov     eax, 72
        syscall
        mov     eax, 1                  # write(3, &ready, 1)
        mov     edi, 3
        lea     rsi, [rip + ready]
        syscall
        xor     eax, eax                # read(4, somewhere, 1)
        mov     edi, 4
        lea     rsi, [rsp - 8]
        syscall
        cmp     eax, 1                  # nobody is there any more who could say so
        jne     quit
        mov     r13d, 3                 # EXECUTE
        mov     rax, [r12]
        mov     rdi, [r12 + 32]         # execve(argv[3], &argv[4], environment)
        lea     rsi, [r12 + 40]
        lea     rdx, [r12 + rax * 8 + 16]
        mov     eax, 59
        syscall

fail:   neg     eax                     # write(3, what and errno, 8)
        shl     rax, 32
        or      rax, r13
        push    rax
        mov     rsi, rsp
        mov     eax, 1
        mov     edi, 3
        mov     edx, 8
        syscall
quit:   mov     edi, 127
        jmp     exit

        .balign 8
all:    .quad   -1
none:   .quad   0, 0, 0
version:
        .long   0x20080522, 0
ready:  .byte   1
