/** @file
  Memory that OP-TEE shares with this module: allocated and shared once, at boot. The SPMC's TX buffer, where descriptors of
  memory go, is unmapped at ExitBootServices, so nothing can be shared later.
**/

#include "OpteeFfa.h"

#include <Library/ArmFfaLib.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/UefiBootServicesTableLib.h>

/// A memory transaction of one borrower and one range, as FF-A 1.2 describes it.
typedef struct {
  UINT16    Sender;
  UINT16    Attributes;
  UINT32    Flags;
  UINT64    Handle;
  UINT64    Tag;
  UINT32    AccessSize;
  UINT32    AccessCount;
  UINT32    AccessOffset;
  UINT32    Reserved[3];
  struct {
    UINT16    Receiver;
    UINT8     Permissions;
    UINT8     Flags;
    UINT32    CompositeOffset;
    UINT64    ImplementationDefined[2];
    UINT64    Reserved;
  } Access;
  struct {
    UINT32    PageCount;
    UINT32    RangeCount;
    UINT64    Reserved;
  } Composite;
  struct {
    UINT64    Address;
    UINT32    PageCount;
    UINT32    Reserved;
  } Range;
} MEMORY_TRANSACTION;

/// Normal memory, write-back, inner shareable.
#define NORMAL_MEMORY  0x2F
/// Data access: read and write.
#define READ_WRITE  2

OPTEE_SHARED_MEMORY  mOpteeMemory[OPTEE_MEMORY_COUNT] = {
  { .Pages = OPTEE_CALL_PAGES },
  { .Pages = OPTEE_RPC_PAGES  },
  { .Pages = OPTEE_RPC_PAGES  }
};

/**
  Shares one piece.

  @param[in]      Self    This endpoint.
  @param[in]      Optee   OP-TEE.
  @param[in, out] Memory  The piece; gets its handle.

  @return The SPMC's verdict.
**/
STATIC
EFI_STATUS
Share (
  IN     UINT16               Self,
  IN     UINT16               Optee,
  IN OUT OPTEE_SHARED_MEMORY  *Memory
  )
{
  EFI_STATUS          Status;
  VOID                *Tx;
  UINT64              TxSize;
  MEMORY_TRANSACTION  *Transaction;
  FFA_REGISTERS       Registers;

  Status = ArmFfaLibGetRxTxBuffers (&Tx, &TxSize, NULL, NULL);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Transaction = Tx;
  ZeroMem (Transaction, sizeof (*Transaction));
  Transaction->Sender                 = Self;
  Transaction->Attributes             = NORMAL_MEMORY;
  Transaction->AccessSize             = sizeof (Transaction->Access);
  Transaction->AccessCount            = 1;
  Transaction->AccessOffset           = OFFSET_OF (MEMORY_TRANSACTION, Access);
  Transaction->Access.Receiver        = Optee;
  Transaction->Access.Permissions     = READ_WRITE;
  Transaction->Access.CompositeOffset = OFFSET_OF (MEMORY_TRANSACTION, Composite);
  Transaction->Composite.PageCount    = Memory->Pages;
  Transaction->Composite.RangeCount   = 1;
  Transaction->Range.Address          = Memory->Physical;
  Transaction->Range.PageCount        = Memory->Pages;

  ZeroMem (&Registers, sizeof (Registers));
  Registers.X[0] = ARM_FID_FFA_MEM_SHARE_AARCH32;
  Registers.X[1] = sizeof (*Transaction);
  Registers.X[2] = sizeof (*Transaction);
  FfaCall (&Registers);
  if ((UINT32)Registers.X[0] != ARM_FID_FFA_SUCCESS_AARCH32) {
    return FfaStatusToEfiStatus ((UINT32)Registers.X[2]);
  }

  Memory->Handle = LShiftU64 ((UINT32)Registers.X[3], 32) | (UINT32)Registers.X[2];
  Memory->Shared = TRUE;
  return EFI_SUCCESS;
}

EFI_STATUS
OpteeFfaShareMemory (
  IN UINT16  Self,
  IN UINT16  Optee
  )
{
  EFI_STATUS           Status;
  OPTEE_SHARED_MEMORY  *Memory;

  for (Memory = mOpteeMemory; Memory < mOpteeMemory + OPTEE_MEMORY_COUNT; Memory++) {
    Status = gBS->AllocatePages (AllocateAnyPages, gOpteeFfaMemoryType, Memory->Pages, &Memory->Physical);
    if (!EFI_ERROR (Status)) {
      Memory->Address = (UINT8 *)(UINTN)Memory->Physical;
      ZeroMem (Memory->Address, EFI_PAGES_TO_SIZE (Memory->Pages));
      Status = Share (Self, Optee, Memory);
    }

    if (EFI_ERROR (Status)) {
      return Status;
    }
  }

  return EFI_SUCCESS;
}

BOOLEAN
OpteeFfaReclaimMemory (
  VOID
  )
{
  OPTEE_SHARED_MEMORY  *Memory;
  OPTEE_REGISTERS      Message;
  FFA_REGISTERS        Registers;
  BOOLEAN              All;

  All = TRUE;
  for (Memory = mOpteeMemory; Memory < mOpteeMemory + OPTEE_MEMORY_COUNT; Memory++) {
    if (!Memory->Shared) {
      continue;
    }

    //
    // OP-TEE does not know what it never used, and may have ended: the SPMC's word below is what counts.
    //
    ZeroMem (&Message, sizeof (Message));
    Message.W[0] = OPTEE_FFA_UNREGISTER_SHM;
    Message.W[1] = (UINT32)Memory->Handle;
    Message.W[2] = (UINT32)RShiftU64 (Memory->Handle, 32);
    OpteeFfaRequest (&Message);

    ZeroMem (&Registers, sizeof (Registers));
    Registers.X[0] = ARM_FID_FFA_MEM_RETRIEVE_RECLAIM;
    Registers.X[1] = (UINT32)Memory->Handle;
    Registers.X[2] = (UINT32)RShiftU64 (Memory->Handle, 32);
    FfaCall (&Registers);
    Memory->Shared = (UINT32)Registers.X[0] != ARM_FID_FFA_SUCCESS_AARCH32;
    All            = All && !Memory->Shared;
  }

  return All;
}
