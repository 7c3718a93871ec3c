; One ternary product: y = M x, with the trits of M written out.
;
;   trilobit run examples/ternary_product.s --dump v1
;
; x is quantised to int8 first (normq): q = round(127 * x / max|x|), and the scale max|x| stays beside the activation
; buffer. The product adds and subtracts q, exactly, and multiplies once by both scales. The segment's scale undoes the
; 127, so that y comes out in the units of x (bp=0).

.core tiny

.region x, readonly, i16
  .i16 100, -200, 300, -450, 500, -600, 700, -800

; Ten rows are two groups of five: a byte of the stream holds five rows of one column.
.region weights, readonly, stream
matrix:
  .ternary 10, 8, scale=1/127
    + 0 0 0 0 0 0 0
    0 - 0 0 0 0 0 0
    + + + + + + + +
    + - + - + - + -
    0 0 0 0 0 0 0 0
    - - - - 0 0 0 0
    0 0 0 0 + + + +
    + 0 - 0 + 0 - 0
    0 0 0 + - 0 0 0
    - + - + - + - +

.region y, writable, i16, size=20

    stream  [weights], beats=weights.beats
    ldv     v0, [x], len=8
    normq   a0, v0, s0, len=8           ; s0 is not used without "scaled"
    tmatmul v1, a0, [matrix], len=10, bp=0
    sv      [y], v1, len=10
    halt
