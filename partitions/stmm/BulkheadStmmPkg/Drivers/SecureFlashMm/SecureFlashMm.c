/** @file
  Runs EDK2's VirtNorFlash code in Standalone MM, on the part of the secure flash bank that holds the variable store.

  The flash "device" given to that code begins at the store, not at the bank: its commands then stay inside the region
  that the partition's manifest names. QEMU's pflash takes a command at any of its addresses.

  Where StMM is given no flash, the store is in RAM (RamStore.c).
**/

#include <PiMm.h>

#include <IndustryStandard/ArmFfaSvc.h>
#include <Library/ArmSvcLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/MmServicesTableLib.h>
#include <Library/PcdLib.h>
#include <Library/PrintLib.h>
#include <Library/SerialPortLib.h>

#include "../../../OvmfPkg/VirtNorFlashDxe/VirtNorFlash.h"
#include "RamStore.h"

/// Erase block of QEMU's "virt" flash: two parts of 128 KiB blocks side by side.
#define BLOCK_SIZE  SIZE_256KB
/// What FvbWrite() programs at most without erasing, counted from the write buffer in which a write begins.
#define PIECE_SIZE  (4 * P30_MAX_BUFFER_SIZE_IN_BYTES)

//
// Names that VirtNorFlash.c and VirtNorFlashFvb.c refer to.
//
NOR_FLASH_INSTANCE  **mNorFlashInstances;
UINT32              mNorFlashDeviceCount;
UINTN               mFlashNvStorageVariableBase;

STATIC
EFI_STATUS
EFIAPI
WriteInPieces (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  IN       EFI_LBA                              Lba,
  IN       UINTN                                Offset,
  IN OUT   UINTN                                *NumBytes,
  IN       UINT8                                *Buffer
  );

STATIC NOR_FLASH_INSTANCE  mFlash = {
  .Signature   = NOR_FLASH_SIGNATURE,
  .BlockSize   = BLOCK_SIZE,
  .FvbProtocol = {
    .GetAttributes      = FvbGetAttributes,
    .SetAttributes      = FvbSetAttributes,
    .GetPhysicalAddress = FvbGetPhysicalAddress,
    .GetBlockSize       = FvbGetBlockSize,
    .Read               = FvbRead,
    .Write              = WriteInPieces,
    .EraseBlocks        = FvbEraseBlocks,
  },
};

STATIC NOR_FLASH_INSTANCE  *mFlashes[] = { &mFlash };

/**
  Erases one block. Called by FvbEraseBlocks().

  @param[in] Instance      The flash.
  @param[in] BlockAddress  Address of the block.

  @return Status of the device, after a few attempts while it reports the block as locked.
**/
EFI_STATUS
NorFlashUnlockAndEraseSingleBlock (
  IN NOR_FLASH_INSTANCE  *Instance,
  IN UINTN               BlockAddress
  )
{
  EFI_STATUS  Status;
  UINTN       Attempt;

  for (Attempt = 0; Attempt < NOR_FLASH_ERASE_RETRY; Attempt++) {
    Status = NorFlashUnlockSingleBlockIfNecessary (Instance, BlockAddress);
    if (EFI_ERROR (Status)) {
      break;
    }

    Status = NorFlashEraseSingleBlock (Instance, BlockAddress);
    if (Status != EFI_WRITE_PROTECTED) {
      break;
    }
  }

  return Status;
}

/**
  Tells whether a piece of a block is as an erase leaves it.

  @param[in] Words  The piece.
  @param[in] Count  Number of words.

  @retval TRUE  All bits are one: it need not be programmed.
**/
STATIC
BOOLEAN
IsBlank (
  IN CONST UINT32  *Words,
  IN UINTN         Count
  )
{
  UINTN  Index;

  for (Index = 0; Index < Count; Index++) {
    if (Words[Index] != MAX_UINT32) {
      return FALSE;
    }
  }

  return TRUE;
}

/**
  Erases a block and programs it anew. Called by NorFlashWriteBlocks().

  @param[in] Instance          The flash.
  @param[in] Lba               Which block.
  @param[in] DataBuffer        New content.
  @param[in] BlockSizeInWords  Size of a block in 32-bit words, a multiple of the device's write buffer.

  @return Status of the device.
**/
EFI_STATUS
NorFlashWriteFullBlock (
  IN NOR_FLASH_INSTANCE  *Instance,
  IN EFI_LBA             Lba,
  IN UINT32              *DataBuffer,
  IN UINT32              BlockSizeInWords
  )
{
  EFI_STATUS  Status;
  UINTN       BlockAddress;
  UINTN       Word;

  BlockAddress = GET_NOR_BLOCK_ADDRESS (Instance->RegionBaseAddress, Lba, Instance->BlockSize);
  Status       = NorFlashUnlockAndEraseSingleBlock (Instance, BlockAddress);

  for (Word = 0; !EFI_ERROR (Status) && (Word < BlockSizeInWords); Word += P30_MAX_BUFFER_SIZE_IN_WORDS) {
    if (!IsBlank (&DataBuffer[Word], P30_MAX_BUFFER_SIZE_IN_WORDS)) {
      Status = NorFlashWriteBuffer (
                 Instance,
                 BlockAddress + Word * sizeof (UINT32),
                 P30_MAX_BUFFER_SIZE_IN_BYTES,
                 &DataBuffer[Word]
                 );
    }
  }

  // Back to reading, whatever happened.
  SEND_NOR_COMMAND (Instance->DeviceBaseAddress, 0, P30_CMD_READ_ARRAY);
  return Status;
}

/**
  Tells whether new content needs bits set that are clear in the flash.

  @param[in] Old   Content of the flash.
  @param[in] New   What shall be there.
  @param[in] Size  Number of bytes.

  @retval TRUE  Only an erase can do that.
**/
STATIC
BOOLEAN
NeedsErase (
  IN CONST UINT8  *Old,
  IN CONST UINT8  *New,
  IN UINTN        Size
  )
{
  UINTN  Index;

  for (Index = 0; Index < Size; Index++) {
    if ((New[Index] & ~Old[Index]) != 0) {
      return TRUE;
    }
  }

  return FALSE;
}

/**
  Writes to a block, in pieces small enough for FvbWrite() to program them.

  FvbWrite() answers a longer write by erasing the block and programming all of it anew, even onto blank flash: every
  variable of more than half a KiB would cost an erase, and a power failure during it the store.

  @param[in]      This      The block protocol.
  @param[in]      Lba       Which block.
  @param[in]      Offset    Where in the block.
  @param[in, out] NumBytes  How many bytes to write; how many were written.
  @param[in]      Buffer    New content.

  @return As FvbWrite().
**/
STATIC
EFI_STATUS
EFIAPI
WriteInPieces (
  IN CONST EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *This,
  IN       EFI_LBA                              Lba,
  IN       UINTN                                Offset,
  IN OUT   UINTN                                *NumBytes,
  IN       UINT8                                *Buffer
  )
{
  EFI_STATUS  Status;
  UINT8       *Flash;
  UINTN       Done;
  UINTN       Piece;

  Flash = (UINT8 *)(GET_NOR_BLOCK_ADDRESS (mFlash.RegionBaseAddress, Lba, BLOCK_SIZE) + Offset);
  if ((*NumBytes == 0) || (Lba > mFlash.LastBlock) || (Offset >= BLOCK_SIZE) || (*NumBytes > BLOCK_SIZE - Offset) ||
      NeedsErase (Flash, Buffer, *NumBytes))
  {
    return FvbWrite (This, Lba, Offset, NumBytes, Buffer);
  }

  for (Done = 0; Done < *NumBytes; Done += Piece) {
    Piece = MIN (*NumBytes - Done, PIECE_SIZE - (Offset + Done) % P30_MAX_BUFFER_SIZE_IN_BYTES);
    if (CompareMem (Flash + Done, Buffer + Done, Piece) == 0) {
      continue;
    }

    Status = FvbWrite (This, Lba, Offset + Done, &Piece, Buffer + Done);
    if (EFI_ERROR (Status)) {
      *NumBytes = Done;
      return Status;
    }
  }

  return EFI_SUCCESS;
}

/**
  There is no virtual address map in MM; VirtNorFlash's handlers for that event are linked but never called.

  @param[in]      DebugDisposition  Not used.
  @param[in, out] Address           Not used.

  @retval EFI_UNSUPPORTED  Always.
**/
EFI_STATUS
EFIAPI
EfiConvertPointer (
  IN     UINTN  DebugDisposition,
  IN OUT VOID   **Address
  )
{
  return EFI_UNSUPPORTED;
}

/**
  Tells whether StMM has been given the flash: whoever is below knows what is mapped at its address.

  @retval TRUE   It has.
  @retval FALSE  Nothing is there: an access would end StMM.
**/
STATIC
BOOLEAN
HasFlash (
  VOID
  )
{
  ARM_SVC_ARGS  Args;

  ZeroMem (&Args, sizeof (Args));
  Args.Arg0 = ARM_FID_FFA_MEM_PERM_GET;
  Args.Arg1 = PcdGet64 (PcdFlashNvStorageVariableBase64);
  ArmCallSvc (&Args);
  return !IS_FID_FFA_ERROR (Args.Arg0);
}

/**
  Sets the flash up, and formats the store if it holds none.

  @param[out] State  What was found.

  @retval EFI_SUCCESS  There is a store in it.
  @return Otherwise why not.
**/
STATIC
EFI_STATUS
FlashInitialize (
  OUT CONST CHAR8  **State
  )
{
  EFI_STATUS  Status;

  mFlash.RegionBaseAddress = (UINTN)PcdGet64 (PcdFlashNvStorageVariableBase64);
  mFlash.DeviceBaseAddress = mFlash.RegionBaseAddress;
  mFlash.Size              = PcdGet32 (PcdFlashNvStorageVariableSize) +
                             PcdGet32 (PcdFlashNvStorageFtwWorkingSize) +
                             PcdGet32 (PcdFlashNvStorageFtwSpareSize);
  mFlash.LastBlock    = mFlash.Size / BLOCK_SIZE - 1;
  mFlash.ShadowBuffer = AllocatePages (EFI_SIZE_TO_PAGES (BLOCK_SIZE));
  if (mFlash.ShadowBuffer == NULL) {
    return EFI_OUT_OF_RESOURCES;
  }

  mNorFlashInstances          = mFlashes;
  mNorFlashDeviceCount        = ARRAY_SIZE (mFlashes);
  mFlashNvStorageVariableBase = mFlash.RegionBaseAddress;

  // A reset in the middle of a command leaves the device in command mode.
  NorFlashReset (&mFlash);
  *State = "found";
  Status = ValidateFvHeader (&mFlash);
  if (EFI_ERROR (Status)) {
    *State = "formatted";
    Status = FvbEraseBlocks (&mFlash.FvbProtocol, (EFI_LBA)0, (UINTN)(mFlash.LastBlock + 1), EFI_LBA_LIST_TERMINATOR);
    if (!EFI_ERROR (Status)) {
      Status = InitializeFvAndVariableStoreHeaders (&mFlash);
    }

    if (!EFI_ERROR (Status)) {
      Status = ValidateFvHeader (&mFlash);
    }
  }

  return Status;
}

/**
  Makes the store ready and publishes its block protocol. A flash that is there and fails is an error: variables that came back empty would
  switch secure boot off.

  @param[in] ImageHandle    Not used.
  @param[in] MmSystemTable  Not used.

  @retval EFI_SUCCESS  The variable drivers may start.
  @return Otherwise why not.
**/
EFI_STATUS
EFIAPI
SecureFlashInitialize (
  IN EFI_HANDLE           ImageHandle,
  IN EFI_MM_SYSTEM_TABLE  *MmSystemTable
  )
{
  EFI_STATUS                           Status;
  EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  *Protocol;
  EFI_HANDLE                           Handle;
  EFI_PHYSICAL_ADDRESS                 Address;
  CONST CHAR8                          *State;
  UINTN                                Size;
  CHAR8                                Line[96];
  UINTN                                Length;

  State = "unusable";
  if (HasFlash ()) {
    Status   = FlashInitialize (&State);
    Protocol = &mFlash.FvbProtocol;
    Address  = mFlash.RegionBaseAddress;
    Size     = mFlash.Size;
  } else {
    State  = "in RAM, lost at power-off,";
    Status = RamStoreInitialize (&Protocol, &Address, &Size);
  }

  if (!EFI_ERROR (Status)) {
    Handle = NULL;
    Status = gMmst->MmInstallProtocolInterface (
                      &Handle,
                      &gEfiSmmFirmwareVolumeBlockProtocolGuid,
                      EFI_NATIVE_INTERFACE,
                      Protocol
                      );
  }

  if (EFI_ERROR (Status)) {
    State = "unusable";
  }

  Length = AsciiSPrint (
             Line,
             sizeof (Line),
             "StMM: variable store %a at 0x%lx, %d KiB, %r\n",
             State,
             Address,
             Size / SIZE_1KB,
             Status
             );
  SerialPortWrite ((UINT8 *)Line, Length);
  return Status;
}
