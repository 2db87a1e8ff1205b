/** @file
  The variable store in RAM, for systems that give StMM no flash.
**/

#ifndef RAM_STORE_H_
#define RAM_STORE_H_

#include <PiMm.h>

#include <Protocol/FirmwareVolumeBlock.h>

/**
  Makes an empty variable store in RAM. What is written to it is lost at power-off.

  @param[out] Protocol  Its block protocol.
  @param[out] Address   Its address.
  @param[out] Size      Its bytes.

  @retval EFI_SUCCESS           It is ready.
  @retval EFI_OUT_OF_RESOURCES  There is not enough memory.
**/
EFI_STATUS
RamStoreInitialize (
  OUT EFI_FIRMWARE_VOLUME_BLOCK2_PROTOCOL  **Protocol,
  OUT EFI_PHYSICAL_ADDRESS                 *Address,
  OUT UINTN                                *Size
  );

#endif
