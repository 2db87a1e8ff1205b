/** @file
  The variable store in RAM, for systems that give StMM no flash: OP-TEE, and partitions without that device region.

  It is the store that EDK2's variable and fault tolerant write drivers know, as a block device. It is small: OP-TEE gives StMM a heap of 402 pages, for
  drivers and their data, and OpenSSL needs some of it for each signature.
**/

#include "RamStore.h"

#include <Guid/SystemNvDataGuid.h>
#include <Guid/VariableFormat.h>
#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/MemoryAllocationLib.h>

#define BLOCK_SIZE       SIZE_4KB
/// Of the variables: one of the greatest size, and some more.
#define VARIABLE_BLOCKS  12
/// Variables, the working block of fault tolerant writes, their spare blocks: as StoreVariableFlashInfoLib has it.
#define BLOCK_COUNT      (VARIABLE_BLOCKS + 1 + VARIABLE_BLOCKS)
/// Memory, whose bits a program may set and clear as it likes; an erase sets them.
#define ATTRIBUTES  (EFI_FVB2_READ_ENABLED_CAP | EFI_FVB2_READ_STATUS | EFI_FVB2_WRITE_ENABLED_CAP | EFI_FVB2_WRITE_STATUS | \
                     EFI_FVB2_MEMORY_MAPPED | EFI_FVB2_ERASE_POLARITY)

STATIC UINT8  *mStore;

/**
  Gets the store's attributes.

  @param[in]  This        Not used.
  @param[out] Attributes  They.

  @retval EFI_SUCCESS  Always.
**/
STATIC
EFI_STATUS
EFIAPI
GetAttributes (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  OUT      EFI_FVB_ATTRIBUTES_2                 *Attributes
  )
{
  *Attributes = ATTRIBUTES;
  return EFI_SUCCESS;
}

/**
  Refuses to change the store's attributes.

  @param[in]      This        Not used.
  @param[in, out] Attributes  Not used.

  @retval EFI_UNSUPPORTED  Always.
**/
STATIC
EFI_STATUS
EFIAPI
SetAttributes (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  IN OUT   EFI_FVB_ATTRIBUTES_2                 *Attributes
  )
{
  return EFI_UNSUPPORTED;
}

/**
  Gets the store's address.

  @param[in]  This     Not used.
  @param[out] Address  It.

  @retval EFI_SUCCESS  Always.
**/
STATIC
EFI_STATUS
EFIAPI
GetPhysicalAddress (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  OUT      EFI_PHYSICAL_ADDRESS                 *Address
  )
{
  *Address = (UINTN)mStore;
  return EFI_SUCCESS;
}

/**
  Gets the size of a block.

  @param[in]  This            Not used.
  @param[in]  Lba             The block.
  @param[out] BlockSize       Its bytes.
  @param[out] NumberOfBlocks  How many there are of this size from it on.

  @retval EFI_SUCCESS            They are known.
  @retval EFI_INVALID_PARAMETER  There is no such block.
**/
STATIC
EFI_STATUS
EFIAPI
GetBlockSize (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  IN       EFI_LBA                              Lba,
  OUT      UINTN                                *BlockSize,
  OUT      UINTN                                *NumberOfBlocks
  )
{
  if (Lba >= BLOCK_COUNT) {
    return EFI_INVALID_PARAMETER;
  }

  *BlockSize      = BLOCK_SIZE;
  *NumberOfBlocks = BLOCK_COUNT - (UINTN)Lba;
  return EFI_SUCCESS;
}

/**
  Finds a place in the store, and shortens an access that would leave its block.

  @param[in]      Lba       The block.
  @param[in]      Offset    Where in it.
  @param[in, out] NumBytes  How many bytes are wanted, and are there.
  @param[out]     Place     Where they are.

  @retval EFI_SUCCESS            All are there.
  @retval EFI_BAD_BUFFER_SIZE    Only some are.
  @retval EFI_INVALID_PARAMETER  There is no such place.
**/
STATIC
EFI_STATUS
FindPlace (
  IN     EFI_LBA  Lba,
  IN     UINTN    Offset,
  IN OUT UINTN    *NumBytes,
  OUT    UINT8    **Place
  )
{
  if ((Lba >= BLOCK_COUNT) || (Offset >= BLOCK_SIZE)) {
    return EFI_INVALID_PARAMETER;
  }

  *Place = mStore + (UINTN)Lba * BLOCK_SIZE + Offset;
  if (*NumBytes > BLOCK_SIZE - Offset) {
    *NumBytes = BLOCK_SIZE - Offset;
    return EFI_BAD_BUFFER_SIZE;
  }

  return EFI_SUCCESS;
}

/**
  Reads from a block.

  @param[in]      This      Not used.
  @param[in]      Lba       The block.
  @param[in]      Offset    Where in it.
  @param[in, out] NumBytes  How many bytes to read; how many were.
  @param[out]     Buffer    Gets them.

  @return As FindPlace().
**/
STATIC
EFI_STATUS
EFIAPI
Read (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  IN       EFI_LBA                              Lba,
  IN       UINTN                                Offset,
  IN OUT   UINTN                                *NumBytes,
  OUT      UINT8                                *Buffer
  )
{
  EFI_STATUS  Status;
  UINT8       *Place;

  Status = FindPlace (Lba, Offset, NumBytes, &Place);
  if (Status != EFI_INVALID_PARAMETER) {
    CopyMem (Buffer, Place, *NumBytes);
  }

  return Status;
}

/**
  Writes to a block.

  @param[in]      This      Not used.
  @param[in]      Lba       The block.
  @param[in]      Offset    Where in it.
  @param[in, out] NumBytes  How many bytes to write; how many were.
  @param[in]      Buffer    They.

  @return As FindPlace().
**/
STATIC
EFI_STATUS
EFIAPI
Write (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  IN       EFI_LBA                              Lba,
  IN       UINTN                                Offset,
  IN OUT   UINTN                                *NumBytes,
  IN       UINT8                                *Buffer
  )
{
  EFI_STATUS  Status;
  UINT8       *Place;

  Status = FindPlace (Lba, Offset, NumBytes, &Place);
  if (Status != EFI_INVALID_PARAMETER) {
    CopyMem (Place, Buffer, *NumBytes);
  }

  return Status;
}

/**
  Erases blocks: all of those that are named, or none.

  @param[in] This  Not used.
  @param[in] ...   Pairs of first block and number of blocks, then EFI_LBA_LIST_TERMINATOR.

  @retval EFI_SUCCESS            They are erased.
  @retval EFI_INVALID_PARAMETER  There is no such block.
**/
STATIC
EFI_STATUS
EFIAPI
EraseBlocks (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  ...
  )
{
  VA_LIST  Args;
  EFI_LBA  First;
  UINTN    Count;
  BOOLEAN  IsValid;

  IsValid = TRUE;
  VA_START (Args, This);
  for (First = VA_ARG (Args, EFI_LBA); First != EFI_LBA_LIST_TERMINATOR; First = VA_ARG (Args, EFI_LBA)) {
    Count   = VA_ARG (Args, UINTN);
    IsValid = IsValid && (First < BLOCK_COUNT) && (Count <= BLOCK_COUNT - First);
  }

  VA_END (Args);
  if (!IsValid) {
    return EFI_INVALID_PARAMETER;
  }

  VA_START (Args, This);
  for (First = VA_ARG (Args, EFI_LBA); First != EFI_LBA_LIST_TERMINATOR; First = VA_ARG (Args, EFI_LBA)) {
    Count = VA_ARG (Args, UINTN);
    SetMem (mStore + (UINTN)First * BLOCK_SIZE, Count * BLOCK_SIZE, MAX_UINT8);
  }

  VA_END (Args);
  return EFI_SUCCESS;
}

STATIC EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  mProtocol = {
  .GetAttributes      = GetAttributes,
  .SetAttributes      = SetAttributes,
  .GetPhysicalAddress = GetPhysicalAddress,
  .GetBlockSize       = GetBlockSize,
  .Read               = Read,
  .Write              = Write,
  .EraseBlocks        = EraseBlocks,
};

EFI_STATUS
RamStoreInitialize (
  OUT EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  **Protocol,
  OUT EFI_PHYSICAL_ADDRESS                 *Address,
  OUT UINTN                                *Size
  )
{
  EFI_FIRMWARE_VOLUME_HEADER  *Volume;
  VARIABLE_STORE_HEADER       *Variables;

  *Address = 0;
  *Size    = BLOCK_COUNT * BLOCK_SIZE;
  mStore   = AllocatePages (EFI_SIZE_TO_PAGES (BLOCK_COUNT * BLOCK_SIZE));
  if (mStore == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  SetMem (mStore, BLOCK_COUNT * BLOCK_SIZE, MAX_UINT8);

  Volume = (EFI_FIRMWARE_VOLUME_HEADER *)mStore;
  ZeroMem (Volume, sizeof (*Volume) + sizeof (EFI_FV_BLOCK_MAP_ENTRY));
  CopyGuid (&Volume->FileSystemGuid, &gEfiSystemNvDataFvGuid);
  Volume->FvLength              = BLOCK_COUNT * BLOCK_SIZE;
  Volume->Signature             = EFI_FVH_SIGNATURE;
  Volume->Attributes            = ATTRIBUTES;
  Volume->HeaderLength          = sizeof (*Volume) + sizeof (EFI_FV_BLOCK_MAP_ENTRY);
  Volume->Revision              = EFI_FVH_REVISION;
  Volume->BlockMap[0].NumBlocks = BLOCK_COUNT;
  Volume->BlockMap[0].Length    = BLOCK_SIZE;
  Volume->Checksum              = CalculateCheckSum16 ((UINT16 *)Volume, Volume->HeaderLength);

  Variables = (VARIABLE_STORE_HEADER *)(mStore + Volume->HeaderLength);
  ZeroMem (Variables, sizeof (*Variables));
  CopyGuid (&Variables->Signature, &gEfiAuthenticatedVariableGuid);
  Variables->Size   = VARIABLE_BLOCKS * BLOCK_SIZE - Volume->HeaderLength;
  Variables->Format = VARIABLE_STORE_FORMATTED;
  Variables->State  = VARIABLE_STORE_HEALTHY;

  *Protocol = &mProtocol;
  *Address  = (UINTN)mStore;
  return EFI_SUCCESS;
}
