/** @file
  VariableFlashInfoLib that asks the driver of the variable store where it is: in flash or in RAM is known at run time only.

  Either kind of store has the variables first, then one working block of fault tolerant writes, then as many spare blocks as there are
  for variables. The drivers that ask are dispatched after SecureFlashMm, which comes before them in the firmware volume.
**/

#include <PiMm.h>

#include <Library/MmServicesTableLib.h>
#include <Library/VariableFlashInfoLib.h>
#include <Protocol/SmmFirmwareVolumeBlock.h>

/// What the store consists of, in this order.
typedef enum {
  VariableBlocks,
  WorkingBlock,
  SpareBlocks
} STORE_PART;

/**
  Finds a part of the store.

  @param[in]  Part         Which one.
  @param[out] BaseAddress  Its address.
  @param[out] Length       Its bytes.

  @retval EFI_SUCCESS            It was found.
  @retval EFI_INVALID_PARAMETER  A pointer is NULL.
  @return Otherwise why there is no store.
**/
STATIC
EFI_STATUS
FindPart (
  IN  STORE_PART            Part,
  OUT EFI_PHYSICAL_ADDRESS  *BaseAddress,
  OUT UINT64                *Length
  )
{
  EFI_STATUS                              Status;
  EFI_SMM_FIRMWARE_VOLUME_BLOCK_PROTOCOL  *Store;
  EFI_PHYSICAL_ADDRESS                    StoreAddress;
  UINTN                                   BlockSize;
  UINTN                                   BlockCount;
  UINTN                                   VariableLength;

  if ((BaseAddress == NULL) || (Length == NULL)) {
    return EFI_INVALID_PARAMETER;
  }

  Status = gMmst->MmLocateProtocol (&gEfiSmmFirmwareVolumeBlockProtocolGuid, NULL, (VOID **)&Store);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = Store->GetPhysicalAddress (Store, &StoreAddress);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = Store->GetBlockSize (Store, 0, &BlockSize, &BlockCount);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  VariableLength = BlockCount / 2 * BlockSize;
  switch (Part) {
    case VariableBlocks:
      *BaseAddress = StoreAddress;
      *Length      = VariableLength;
      break;
    case WorkingBlock:
      *BaseAddress = StoreAddress + VariableLength;
      *Length      = BlockSize;
      break;
    case SpareBlocks:
      *BaseAddress = StoreAddress + VariableLength + BlockSize;
      *Length      = VariableLength;
      break;
  }

  return EFI_SUCCESS;
}

/**
  Finds the blocks with the variables.

  @param[out] BaseAddress  Their address.
  @param[out] Length       Their bytes.

  @return As FindPart().
**/
EFI_STATUS
EFIAPI
GetVariableFlashNvStorageInfo (
  OUT EFI_PHYSICAL_ADDRESS  *BaseAddress,
  OUT UINT64                *Length
  )
{
  return FindPart (VariableBlocks, BaseAddress, Length);
}

/**
  Finds the working block of fault tolerant writes.

  @param[out] BaseAddress  Its address.
  @param[out] Length       Its bytes.

  @return As FindPart().
**/
EFI_STATUS
EFIAPI
GetVariableFlashFtwWorkingInfo (
  OUT EFI_PHYSICAL_ADDRESS  *BaseAddress,
  OUT UINT64                *Length
  )
{
  return FindPart (WorkingBlock, BaseAddress, Length);
}

/**
  Finds the spare blocks of fault tolerant writes.

  @param[out] BaseAddress  Their address.
  @param[out] Length       Their bytes.

  @return As FindPart().
**/
EFI_STATUS
EFIAPI
GetVariableFlashFtwSpareInfo (
  OUT EFI_PHYSICAL_ADDRESS  *BaseAddress,
  OUT UINT64                *Length
  )
{
  return FindPart (SpareBlocks, BaseAddress, Length);
}
