; A token mixer in the manner of RWKV-4, in 29 instructions with three D x D ternary products: the shape of the program
; that the paper ran on its FPGA. One step in time; the state (p, a, b) stays in memory for the next.
;
;   trilobit run examples/mixer29.s --dump mem:out,mem:p,mem:a,mem:b
;
; At the paper's size, on its memory of one byte a clock at 60 MHz (bench/paper.py does this for d = 512, 1024 and 2048):
;
;   trilobit asm examples/mixer29.s --core paper8 -D D=512 -D SCALE=0.05 -o mixer.bin
;   trilobit run mixer.bin --core paper8 --backend rtl
;
;   k = Wk x      v = Wv x      r = Wr x
;   p' = max(p + w, k)              the running maximum keeps both exponentials at most 1
;   e1 = exp(p + w - p')            weight of the past, w is the decay (at most 0)
;   e2 = exp(k - p')                weight of this token
;   a' = e1 a + e2 v
;   b' = e1 b + e2
;   out = sigmoid(r) * a' / b'
;
; (RWKV-4 also gives the current token a bonus u before it enters the state; that takes a second pair of exponentials.)
; Binary points: x and out 12; k, v, r, p, w 10; e1, e2 and the sigmoid 14; a and b 16 on 32 bits.
; exp and sig take 17 fraction bits, so operands with 10 are shifted by 7 to the left (shb=-7).

.core tiny
.equ D, 32
.equ SCALE, 0.2                         ; of a trit; 1.1 over the root of D keeps k, v and r near one

.region x, readonly, i16
  .i16 random=11, count=D, low=-8000, high=8000

.region w, readonly, i16                ; decays from -0.05 to -2
  .i16 random=12, count=D, low=-2048, high=-51

.region weights, readonly, stream       ; the segments' scale: SCALE a trit; 127 and 2^12 undo the quantisation of x
wk:
  .ternary D, D, scale=SCALE/127/4096, random=13
wv:
  .ternary D, D, scale=SCALE/127/4096, random=14
wr:
  .ternary D, D, scale=SCALE/127/4096, random=15

.region p, writable, i16
  .i16 -16384, count=D                  ; -16: the state is empty (a = b = 0), so any k must win
.region a, writable, i32, size=4*D
.region b, writable, i32, size=4*D
.region out, writable, i16, size=2*D

.len D
    stream  [weights], beats=weights.beats
    ldv     v0, [x]
    normq   a0, v0, s0
    tmatmul v1, a0, [wk], bp=10         ; k
    tmatmul v2, a0, [wv], bp=10         ; v
    tmatmul v3, a0, [wr], bp=10         ; r: the vector instructions below overlap with it

    ldv     v4, [p]
    ldv     v5, [w]
    add     v4, v4, v5                  ; p + w
    max     v5, v4, v1                  ; p'
    sub     v4, v4, v5
    exp     v4, v4, shb=-7, sho=26      ; e1
    sub     v1, v1, v5
    exp     v1, v1, shb=-7, sho=26      ; e2
    sv      [p], v5

    ldv     v6, [a], wide
    mul     v6, v6, v4, sho=14, wide    ; e1 a
    mul     v2, v2, v1, sho=8, wide     ; e2 v: 10 + 14 - 8 = 16 fraction bits
    add     v6, v6, v2, wide            ; a'
    sv      [a], v6, wide

    ldv     v7, [b], wide
    mul     v7, v7, v4, sho=14, wide    ; e1 b
    add     v7, v7, v1, shb=-2, wide    ; b': e2 from 14 to 16 fraction bits
    sv      [b], v7, wide

    div     v6, v6, v7, sho=12          ; a' / b' with 24 - 12 = 12 fraction bits
    sig     v3, v3, shb=-7, sho=26      ; sigmoid(r)
    mul     v3, v3, v6, sho=14          ; 14 + 12 - 14 = 12 fraction bits
    sv      [out], v3
    halt
