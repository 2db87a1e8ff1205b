/** @file
  CacheMaintenanceLib for StMM wherever it runs: as a partition of an SPMC, or inside OP-TEE.

  A partition keeps the instruction cache coherent with the code that it loads by itself: SPMCs let S-EL0 do that. OP-TEE does not: there even the read of
  CTR_EL0 for the size of a line ends StMM. It cleans and invalidates when it makes pages executable, which the MM core asks for when
  all of the code is in place, so nothing is left to do.

  OP-TEE knows only the FF-A calls that StMM needs, and FFA_SPM_ID_GET, which every SPMC from FF-A 1.1 on answers, is none of them.

  The MM core uses one function of the class; the others are not here, as there is no DMA in StMM.
**/

#include <Base.h>

#include <IndustryStandard/ArmFfaSvc.h>
#include <Library/ArmLib.h>
#include <Library/ArmSvcLib.h>
#include <Library/CacheMaintenanceLib.h>

/**
  Tells whether an SPMC is below, by asking for its id. There is no state: the MM core runs before its own .data is writable.

  @retval TRUE   It is: caches are StMM's own business.
  @retval FALSE  It is OP-TEE.
**/
STATIC
BOOLEAN
IsPartition (
  VOID
  )
{
  ARM_SVC_ARGS  Args;

  Args.Arg0 = ARM_FID_FFA_SPM_ID_GET;
  Args.Arg1 = 0;
  Args.Arg2 = 0;
  Args.Arg3 = 0;
  Args.Arg4 = 0;
  Args.Arg5 = 0;
  Args.Arg6 = 0;
  Args.Arg7 = 0;
  ArmCallSvc (&Args);
  return (UINT32)Args.Arg0 == ARM_FID_FFA_SUCCESS_AARCH32;
}

/**
  Applies an operation to each cache line of a range.

  @param[in] Start       First byte.
  @param[in] Length      Number of bytes.
  @param[in] LineLength  Bytes of a cache line.
  @param[in] Operation   What to do with the line at an address.
**/
STATIC
VOID
ForEachLine (
  IN UINTN           Start,
  IN UINTN           Length,
  IN UINTN           LineLength,
  IN LINE_OPERATION  Operation
  )
{
  UINTN  Line;

  for (Line = Start & ~(LineLength - 1); Line < Start + Length; Line += LineLength) {
    Operation (Line);
  }

  ArmDataSynchronizationBarrier ();
}

/**
  Makes instructions that were written as data visible to instruction fetches.

  @param[in] Address  First byte.
  @param[in] Length   Number of bytes.

  @return Address
**/
VOID *
EFIAPI
InvalidateInstructionCacheRange (
  IN VOID   *Address,
  IN UINTN  Length
  )
{
  if (IsPartition ()) {
    ForEachLine ((UINTN)Address, Length, ArmDataCacheLineLength (), ArmCleanDataCacheEntryToPoUByMVA);
    ForEachLine ((UINTN)Address, Length, ArmInstructionCacheLineLength (), ArmInvalidateInstructionCacheEntryToPoUByMVA);
  }

  ArmInstructionSynchronizationBarrier ();
  return Address;
}
