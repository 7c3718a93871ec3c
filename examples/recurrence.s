; The recurrence of the model's token mixer, 24 steps of it: state = state + c * (input - state).
;
;   trilobit run examples/recurrence.s --dump v2
;
; The state is 32 bits wide: with c down to 2^-13 a 16-bit state would stand still. The input is a constant here, so
; after t steps the state is input * (1 - (1 - c)^t).
; Binary points: input 8, state 20, c 24; lerp shifts the input by 12 to the left to meet the state (shb=-12).

.core tiny
.equ STEPS, 24

.region input, readonly, i16
  .i16 random=3, count=16, low=-20000, high=20000

.region c, readonly, i32            ; from 2^-13 to 1/2, times 2^24 (at most 25 bits with sign)
  .i32 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144
  .i32 524288, 1048576, 2097152, 4194304, 8388607, 3000000, 5000000, 0

.region state, writable, i32, size=64
.len 16

    clr   [state], beats=state.beats
    ldv   v0, [input]
    ldv   v1, [c], wide
    ldv   v2, [state], wide
    seti  x0, STEPS
step:
    lerp  v2, v2, v0, v1, shb=-12   ; the result is always wide; sho defaults to c's 24 bits
    loop  x0, step
    sv    [state], v2, wide
    halt
