/** @file
  VariableFlashInfoLib that asks the driver of the variable store where it is: in flash or in RAM is known at run time only.

  Either kind of store has three blocks: variables, the working block of fault tolerant writes, their spare block. The drivers
  that ask are dispatched after SecureFlashMm, which comes before them in the firmware volume.
**/

#include <PiMm.h>

#include <Library/MmServicesTableLib.h>
#include <Library/VariableFlashInfoLib.h>
#include <Protocol/SmmFirmwareVolumeBlock.h>

/**
  Finds a block of the store.

  @param[in]  Block        Which one.
  @param[out] BaseAddress  Its address.
  @param[out] Length       Its bytes.

  @retval EFI_SUCCESS            It was found.
  @retval EFI_INVALID_PARAMETER  A pointer is NULL.
  @return Otherwise why there is no such block.
**/
STATIC
EFI_STATUS
FindBlock (
  IN  EFI_LBA               Block,
  OUT EFI_PHYSICAL_ADDRESS  *BaseAddress,
  OUT UINT64                *Length
  )
{
  EFI_STATUS                              Status;
  EFI_SMM_FIRMWARE_VOLUME_BLOCK_PROTOCOL  *Store;
  EFI_PHYSICAL_ADDRESS                    StoreAddress;
  UINTN                                   BlockSize;
  UINTN                                   BlockCount;

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

  Status = Store->GetBlockSize (Store, Block, &BlockSize, &BlockCount);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  *BaseAddress = StoreAddress + Block * BlockSize;
  *Length      = BlockSize;
  return EFI_SUCCESS;
}

/**
  Finds the block with the variables.

  @param[out] BaseAddress  Its address.
  @param[out] Length       Its bytes.

  @return As FindBlock().
**/
EFI_STATUS
EFIAPI
GetVariableFlashNvStorageInfo (
  OUT EFI_PHYSICAL_ADDRESS  *BaseAddress,
  OUT UINT64                *Length
  )
{
  return FindBlock (0, BaseAddress, Length);
}

/**
  Finds the working block of fault tolerant writes.

  @param[out] BaseAddress  Its address.
  @param[out] Length       Its bytes.

  @return As FindBlock().
**/
EFI_STATUS
EFIAPI
GetVariableFlashFtwWorkingInfo (
  OUT EFI_PHYSICAL_ADDRESS  *BaseAddress,
  OUT UINT64                *Length
  )
{
  return FindBlock (1, BaseAddress, Length);
}

/**
  Finds the spare block of fault tolerant writes.

  @param[out] BaseAddress  Its address.
  @param[out] Length       Its bytes.

  @return As FindBlock().
**/
EFI_STATUS
EFIAPI
GetVariableFlashFtwSpareInfo (
  OUT EFI_PHYSICAL_ADDRESS  *BaseAddress,
  OUT UINT64                *Length
  )
{
  return FindBlock (2, BaseAddress, Length);
}
