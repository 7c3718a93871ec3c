; An RMSNorm with gains: y = x * gain / sqrt(mean(x^2) + eps).
;
;   trilobit run examples/norm.s --dump v1,mem:y
;
; Numbers are whole; a binary point says what they mean. x has 10 fraction bits, the gains 14, y gets 12.
; The unit computes  z * c_m / sqrt(sum(x^2) + k_m) * 2^-sho  with  z = x * gain,  so with N elements
;   c_m * 2^-sho = sqrt(N) * 2^(12 - 14)   and   k_m = N * eps * 2^(2 * 10).

.core tiny
.equ N, 48

.region x, readonly, i16
  .i16 random=7, count=N, low=-3000, high=3000

; Gains come through the weight stream, in segments of their own, so that they never wait behind loads and stores.
.region gains, readonly, stream
  .gains random=8, count=N, low=12000, high=20000

.region y, writable, i16, size=2*N

    stream [gains], beats=gains.beats
    ldv    v0, [x], len=N
    norm   v1, v0, len=N, gain, c_m=56756, sho=15, k_m=50    ; sqrt(48) = 56756 / 2^13; 48 * 1e-6 * 2^20 = 50
    sv     [y], v1, len=N
    halt
