// What the ULX3S top instantiates of an ECP5, as far as the top uses it. Written for the tests, from the primitives' descriptions.
// Under Verilator (lint) the PLL passes its input through; in simulation it makes the clocks that its parameters say.
`timescale 1ns/1ps

module IB(input I, output O);
  assign O = I;
endmodule

module OBZ(input I, input T, output O);
  assign O = T ? 1'bz : I;
endmodule

module BB(input I, input T, output O, inout B);
  assign B = T ? 1'bz : I;
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
  // Feedback from CLKOP: its frequency is the input's times CLKFB_DIV / CLKI_DIV, the oscillator's CLKOP_DIV times that.
  realtime last, period, oscillator;
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
  initial begin
    wait (edges > 10);
    oscillator = period * CLKI_DIV / CLKFB_DIV / CLKOP_DIV;
    fork
      begin
        #(oscillator * (CLKOP_CPHASE + CLKOP_FPHASE / 8.0));
        forever begin op = 1; #(oscillator * CLKOP_DIV / 2.0); op = 0; #(oscillator * CLKOP_DIV / 2.0); end
      end
      begin
        #(oscillator * (CLKOS_CPHASE + CLKOS_FPHASE / 8.0));
        forever begin os = 1; #(oscillator * CLKOS_DIV / 2.0); os = 0; #(oscillator * CLKOS_DIV / 2.0); end
      end
    join
  end
`endif
endmodule
