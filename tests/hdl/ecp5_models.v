// What the ULX3S top instantiates of an ECP5, as far as the top uses it. Written for the tests, from the primitives' descriptions.
// Under Verilator (lint) the PLL passes its input through; in simulation it makes the clocks that its parameters say.
`timescale 1ns/1ps

// PAD_DELAY, in ns: from a register in a pin to the board.
`ifdef VERILATOR
`define DELAYED
`elsif PAD_DELAY
`define DELAYED #(`PAD_DELAY)
`else
`define DELAYED
`endif

module IB(input I, output O);
  assign O = I;
endmodule

module OBZ(input I, input T, output O);
  assign `DELAYED O = T ? 1'bz : I;
endmodule

module BB(input I, input T, output O, inout B);
  assign `DELAYED B = T ? 1'bz : I;
  assign O = B;
endmodule

module OFS1P3DX(input D, input SP, input SCLK, input CD, output reg Q);
  initial Q = 0;
  always @(posedge SCLK, posedge CD) if (CD) Q <= 0; else if (SP) Q <= D;
endmodule

module IFS1P3DX(input D, input SP, input SCLK, input CD, output reg Q);
  initial Q = 0;
  always @(posedge SCLK, posedge CD) if (CD) Q <= 0; else if (SP) Q <= D;
endmodule

module FD1S3AX(input D, input CK, output reg Q);
  initial Q = 0;
  always @(posedge CK) Q <= D;
endmodule

// Both halves are taken at a rising edge; two edges later D0 leaves, and D1 at the falling edge behind it.
module ODDRX1F(input SCLK, input RST, input D0, input D1, output Q);
  reg [1:0] first = 0, second = 0;
  reg rise = 0, fall = 0;
  assign Q = SCLK ? rise : fall;
  always @(posedge SCLK) begin
    first <= {D1, D0};
    second <= first;
    rise <= second[0];
  end
  reg held = 0;
  always @(posedge SCLK) held <= second[1];
  always @(negedge SCLK) fall <= held;
endmodule

// At a rising edge: Q1 what the rising edge before it sampled, Q0 what the falling edge before that one sampled.
module IDDRX1F(input SCLK, input RST, input D, output reg Q0, output reg Q1);
  reg rise = 0, fall = 0, fall_before = 0;
  initial begin Q0 = 0; Q1 = 0; end
  always @(negedge SCLK) begin
    fall <= D;
    fall_before <= fall;
  end
  always @(posedge SCLK) begin
    rise <= D;
    Q1 <= rise;
    Q0 <= fall_before;
  end
endmodule

module EHXPLLL(
  input CLKI, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG, PLLWAKESYNC, ENCLKOP,
  output CLKOP, CLKOS, LOCK
);
  parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 8, CLKOP_CPHASE = 0, CLKOP_FPHASE = 0;
  parameter CLKOS_DIV = 8, CLKOS_CPHASE = 0, CLKOS_FPHASE = 0;
  parameter CLKOP_ENABLE = "ENABLED", CLKOS_ENABLE = "DISABLED", FEEDBK_PATH = "CLKOP";
  parameter PLLRST_ENA = "DISABLED", INTFB_WAKE = "DISABLED", STDBY_ENABLE = "DISABLED", DPHASE_SOURCE = "DISABLED";
  parameter OUTDIVIDER_MUXA = "DIVA", OUTDIVIDER_MUXB = "DIVB", OUTDIVIDER_MUXC = "DIVC", OUTDIVIDER_MUXD = "DIVD";
`ifdef VERILATOR
  assign CLKOP = CLKI;
  assign CLKOS = CLKI;
  assign LOCK = 1;
`else
  // An output whose phase is DIV - 1 periods of the oscillator has none.
  // Feedback from CLKOP: its frequency is the input's times CLKFB_DIV / CLKI_DIV, the oscillator's CLKOP_DIV times that.
  realtime last, period, oscillator, lag;
  integer edges = 0;
  reg op = 0, os = 0;
  assign CLKOP = op;
  assign CLKOS = os;
  assign LOCK = edges > 20;
  always @(posedge CLKI) begin
    period = $realtime - last;
    last = $realtime;
    edges = edges + 1;
  end
  integer k;
  initial begin
    wait (edges > 10);
    oscillator = period * CLKI_DIV / CLKFB_DIV / CLKOP_DIV;
    lag = oscillator * (CLKOS_CPHASE + 1 - CLKOS_DIV + CLKOS_FPHASE / 8.0 - (CLKOP_CPHASE + 1 - CLKOP_DIV + CLKOP_FPHASE / 8.0));
    forever begin // CLKOS is set by CLKOP's edges, so that rounding moves neither against the other
      op = 1;
      for (k = 0; k < CLKOP_DIV / CLKOS_DIV; k = k + 1) begin
        os <= #(lag + oscillator * CLKOS_DIV * k) 1;
        os <= #(lag + oscillator * CLKOS_DIV * (k + 0.5)) 0;
      end
      #(oscillator * CLKOP_DIV / 2.0);
      op = 0;
      #(oscillator * CLKOP_DIV / 2.0);
    end
  end
`endif
endmodule
