; A whole "language model" with a vocabulary of eight: embedding row, ternary product, argmax, next token.
;
;   trilobit run examples/argmax.s --push 3 -n 8
;
; Embeddings are one-hot, and the matrix moves token t to (3 t + 1) mod 8. The host pushes prompt tokens; while one
; waits, the model does not sample (poll, bprompt). It stops after -n tokens.

.core tiny
.equ V, 8

.region table, readonly, i16        ; row t has its 1000 in column t; 16 bytes a row
  .i16 1000, 0, 0, 0, 0, 0, 0, 0
  .i16 0, 1000, 0, 0, 0, 0, 0, 0
  .i16 0, 0, 1000, 0, 0, 0, 0, 0
  .i16 0, 0, 0, 1000, 0, 0, 0, 0
  .i16 0, 0, 0, 0, 1000, 0, 0, 0
  .i16 0, 0, 0, 0, 0, 1000, 0, 0
  .i16 0, 0, 0, 0, 0, 0, 1000, 0
  .i16 0, 0, 0, 0, 0, 0, 0, 1000

.region weights, readonly, stream
lm_head:
  .ternary V, V, scale=1/127
    0 0 0 0 0 + 0 0
    + 0 0 0 0 0 0 0
    0 0 0 + 0 0 0 0
    0 0 0 0 0 0 + 0
    0 + 0 0 0 0 0 0
    0 0 0 0 + 0 0 0
    0 0 0 0 0 0 0 +
    0 0 + 0 0 0 0 0

    wait                                    ; the first prompt token
token:
    poll                                    ; a further one replaces it at once: nothing to remember in this model
    bprompt token
    emb     v0, [table], len=V, pitch=16, rows=V
    stream  [weights], beats=weights.beats
    normq   a0, v0, s0, len=V
    tmatmul v1, a0, [lm_head], len=V, bp=0
    argmax  v1, len=V, first, last, noise   ; noise only if the host asks for a temperature
    emit
    bdone   end
    jump    token
end:
    halt
