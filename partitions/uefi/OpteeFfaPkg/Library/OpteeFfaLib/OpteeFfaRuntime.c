/** @file
  OpteeLib over FF-A for modules that go on at run time.
**/

#include "OpteeFfa.h"

#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiRuntimeLib.h>

#include <Guid/EventGroup.h>

CONST EFI_MEMORY_TYPE  gOpteeFfaMemoryType = EfiRuntimeServicesData;

/**
  Goes on with virtual addresses. OP-TEE knows the memory by handles, which stay.

  @param[in] Event    Not used.
  @param[in] Context  Not used.
**/
STATIC
VOID
EFIAPI
OnVirtualAddressChange (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  UINTN  Index;

  for (Index = 0; Index < OPTEE_MEMORY_COUNT; Index++) {
    EfiConvertPointer (0, (VOID **)&mOpteeMemory[Index].Address);
  }
}

EFI_STATUS
OpteeFfaRegisterEvent (
  OUT EFI_EVENT  *Event
  )
{
  return gBS->CreateEventEx (
                EVT_NOTIFY_SIGNAL,
                TPL_NOTIFY,
                OnVirtualAddressChange,
                NULL,
                &gEfiEventVirtualAddressChangeGuid,
                Event
                );
}

EFI_STATUS
OpteeFfaGetTime (
  OUT EFI_TIME  *Time
  )
{
  return EfiGetTime (Time, NULL);
}
