; Add two vectors.
;
;   trilobit run examples/add_vectors.s --dump v2,mem:sum
;
; The loads share one unit and so follow one another. The sum starts as soon as the second load has written its first
; elements, and the store as soon as the sum has: an instruction waits for elements, not for whole instructions.

.core tiny

.region left, readonly, i16
  .i16 1, 2, 3, 4, 5, 6, 7, 8, -100, 200, -300, 400, 32000, -32000, 32767, -32768

.region right, readonly, i16
  .i16 10, 20, 30, 40, 50, 60, 70, 80, 100, 100, 100, 100, 700, -700, 1000, -1

.region sum, writable, i16, size=32

.len 16                         ; the length of every instruction below that has none of its own

    ldv   v0, [left]
    ldv   v1, [right]
    add   v2, v0, v1            ; saturates to 16 bits: 32000 + 700 is 32700, but 32767 + 1000 stays 32767
    sv    [sum], v2
    halt
