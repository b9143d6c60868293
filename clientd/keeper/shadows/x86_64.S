/* What a task leaves at home, for x86-64; program.py has its bytes, and says what it does.

   as x86_64.S -o shadow.o && objcopy -O binary -j .text shadow.o shadow.bin
*/
    .intel_syntax noprefix
    .globl _start
_start:
    /* rt_sigprocmask(SIG_SETMASK, &all, NULL, 8): before anything else */
    mov   eax, 14
    mov   edi, 2
    lea   rsi, [rip + all]
    xor   edx, edx
    mov   r10d, 8
    syscall
    /* prctl(PR_SET_NAME, name) */
    mov   eax, 157
    mov   edi, 15
    lea   rsi, [rip + name]
    syscall
    /* prlimit64(0, RLIMIT_CORE, {1, 1}, NULL): of limit 1 nothing is dumped, into a pipe neither */
    mov   eax, 302
    xor   edi, edi
    mov   esi, 4
    lea   rdx, [rip + one]
    xor   r10d, r10d
    syscall
    sub   rsp, 256
    mov   rbx, rsp             /* siginfo_t */
    lea   rbp, [rsp + 128]     /* the record: count, signal, pid, uid of the sender */
    xor   r12d, r12d
wait:
    /* rt_sigtimedwait(&all, info, NULL, 8) */
    mov   eax, 128
    lea   rdi, [rip + all]
    mov   rsi, rbx
    xor   edx, edx
    mov   r10d, 8
    syscall
    test  eax, eax
    jle   wait
    cmp   eax, 64
    jne   tell
    cmp   dword ptr [rbx + 8], -1       /* si_code: SI_QUEUE */
    jne   tell
    cmp   dword ptr [rbx + 28], 0x77646f67   /* upper half of si_value: "godw" */
    je    obey
tell:
    inc   r12d
    mov   dword ptr [rbp], r12d
    mov   dword ptr [rbp + 4], eax
    mov   rcx, qword ptr [rbx + 16]     /* si_pid, si_uid */
    mov   qword ptr [rbp + 8], rcx
    /* write(1, record, 16) */
    mov   eax, 1
    mov   edi, 1
    mov   rsi, rbp
    mov   edx, 16
    syscall
    jmp   wait
obey:
    mov   r13d, dword ptr [rbx + 24]    /* a status as wait(2) has it */
    mov   r14d, r13d
    and   r14d, 0x7f
    jz    leave
    /* kill(getpid(), signal): it comes when nothing is blocked any more */
    mov   eax, 39
    syscall
    mov   edi, eax
    mov   esi, r14d
    mov   eax, 62
    syscall
    mov   eax, 14
    mov   edi, 2
    lea   rsi, [rip + none]
    xor   edx, edx
    mov   r10d, 8
    syscall
    mov   edi, r14d
    or    edi, 0x80
    jmp   out
leave:
    mov   edi, r13d
    shr   edi, 8
    and   edi, 0xff
out:
    mov   eax, 231                      /* exit_group */
    syscall
    .balign 8
all:  .quad -1
none: .quad 0
one:  .quad 1, 1
name: .asciz "godwit-shadow"
