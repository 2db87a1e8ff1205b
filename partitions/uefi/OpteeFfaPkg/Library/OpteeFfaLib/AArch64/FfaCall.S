//
//  An FF-A call with all eight registers in and out. ArmCallSmc gives back four, and OP-TEE's answers are in x3 to x7.
//

#include <AsmMacroLib.h>

// VOID FfaCall (IN OUT FFA_REGISTERS *Registers)
ASM_FUNC(FfaCall)
  str   x0, [sp, #-16]!
  ldp   x6, x7, [x0, #48]
  ldp   x4, x5, [x0, #32]
  ldp   x2, x3, [x0, #16]
  ldp   x0, x1, [x0]
  smc   #0
  ldr   x9, [sp], #16
  stp   x0, x1, [x9]
  stp   x2, x3, [x9, #16]
  stp   x4, x5, [x9, #32]
  stp   x6, x7, [x9, #48]
  ret
