; Two instructions that overlap: a long product, and a sum that does not need it and finishes first.
;
;   trilobit run examples/overlap.s --backend rtl --step
;
; Issue is in order, completion is not. The product (60 x 64 trits, 12 groups of 16 memory beats) goes to the ternary
; matmul unit; the sum behind it needs other registers and another unit, so it starts at once and retires long before.
; The last instruction needs both results: it is issued while the product runs and takes its elements as they come.

.core tiny

.region x, readonly, i16
  .i16 random=1, count=64, low=-1000, high=1000

.region weights, readonly, stream
matrix:
  .ternary 60, 64, scale=1/127, random=2

.region y, writable, i16, size=128

    stream  [weights], beats=weights.beats
    ldv     v0, [x], len=64
    normq   a0, v0, s0, len=64
    tmatmul v1, a0, [matrix], len=60, bp=-3     ; y / 8, so that 64 summands of 1000 fit 16 bits
    add     v2, v0, v0, len=60                  ; independent: overtakes the product
    add     v3, v1, v2, len=60                  ; depends on both
    sv      [y], v3, len=60
    halt
