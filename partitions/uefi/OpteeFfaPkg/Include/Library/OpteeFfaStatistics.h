/** @file
  What the instances of OpteeLib in this package count. Each module that is linked with one has its own.
**/

#ifndef OPTEE_FFA_STATISTICS_H_
#define OPTEE_FFA_STATISTICS_H_

#include <Uefi.h>

/// Since the module was loaded.
typedef struct {
  UINT32    Calls;          ///< Calls that OP-TEE has ended.
  UINT32    Interruptions;  ///< Times that it left the core to the normal world's interrupts.
  UINT32    Waits;          ///< Times that it asked to wait for a lock that another call had.
  UINT32    WakeUps;        ///< Times that it asked to wake another call, which may be the operating system's.
  UINT64    Physical;       ///< Where the memory is that it shares with OP-TEE; 0 before OpteeInit.
  UINT64    Address;        ///< Where the module sees that memory now.
} OPTEE_FFA_STATISTICS;

/**
  Tells what was counted.

  @param[out] Statistics  The numbers.
**/
VOID
EFIAPI
OpteeFfaGetStatistics (
  OUT OPTEE_FFA_STATISTICS  *Statistics
  );

#endif
