/** @file
  Makes variable services wait while StMM serves others, and fail when their message to it fails.

  VariableSmmRuntimeDxe looks at the status inside the message and not at whether the message arrived: with StMM gone it
  would return the status of its last success, and nothing would be stored. This library stands between it and
  MmCommunicationDxe, by taking the place of that driver's protocol, and writes the failure where it is looked for.

  StMM serves one request at a time, and OP-TEE has requests, too. The SPMC answers "busy" to whoever comes meanwhile, which
  MmCommunicationDxe hands up as EFI_NO_RESPONSE: here the message is sent again until StMM has time for it. The caller's core
  may be needed for the other request to end, so an operating system must be able to take it away from this driver.
**/

#include <PiDxe.h>

#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/MemoryAllocationLib.h>
#include <Library/TimerLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiRuntimeLib.h>

#include <Guid/EventGroup.h>
#include <Guid/SmmVariableCommon.h>
#include <Protocol/MmCommunication2.h>
#include <Protocol/SmmVariable.h>

/// How long a message waits for StMM, in seconds.
#define BUSY_LIMIT  10

STATIC
EFI_STATUS
EFIAPI
CommunicateAndReport (
  IN CONST EFI_MM_COMMUNICATION2_PROTOCOL  *This,
  IN OUT   VOID                            *CommBufferPhysical,
  IN OUT   VOID                            *CommBufferVirtual,
  IN OUT   UINTN                           *CommSize OPTIONAL
  );

/// What MmCommunicationDxe installed.
STATIC EFI_MM_COMMUNICATION2_PROTOCOL  *mCarrier;

/// What stands in its place.
STATIC EFI_MM_COMMUNICATION2_PROTOCOL  mReporting = { CommunicateAndReport };

/**
  Sends a message; one of the variable driver's that failed gets a status that says so.

  @param[in]      This                Not used.
  @param[in, out] CommBufferPhysical  As for the protocol.
  @param[in, out] CommBufferVirtual   As for the protocol.
  @param[in, out] CommSize            As for the protocol.

  @return As the protocol.
**/
STATIC
EFI_STATUS
EFIAPI
CommunicateAndReport (
  IN CONST EFI_MM_COMMUNICATION2_PROTOCOL  *This,
  IN OUT   VOID                            *CommBufferPhysical,
  IN OUT   VOID                            *CommBufferVirtual,
  IN OUT   UINTN                           *CommSize OPTIONAL
  )
{
  EFI_STATUS                 Status;
  EFI_MM_COMMUNICATE_HEADER  *Message;
  UINT64                     Start;
  UINT64                     Limit;

  Limit = MultU64x32 (GetPerformanceCounterProperties (NULL, NULL), BUSY_LIMIT);
  Start = GetPerformanceCounter ();
  do {
    // The message is unharmed: it was copied to the buffer, and nobody read that.
    Status = mCarrier->Communicate (mCarrier, CommBufferPhysical, CommBufferVirtual, CommSize);
  } while ((Status == EFI_NO_RESPONSE) && (GetPerformanceCounter () - Start < Limit));

  if (EFI_ERROR (Status) && (CommBufferVirtual != NULL)) {
    Message = CommBufferVirtual;
    if (CompareGuid (&Message->HeaderGuid, &gEfiSmmVariableProtocolGuid)) {
      // The status of UEFI's variable services that means: not the caller's fault, and not done.
      ((SMM_VARIABLE_COMMUNICATE_HEADER *)Message->Data)->ReturnStatus = EFI_DEVICE_ERROR;
    }
  }

  return Status;
}

/**
  Goes on with virtual addresses; those inside this image are relocated by the loader.

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
  EfiConvertPointer (0, (VOID **)&mCarrier);
}

/**
  Takes the place of MmCommunicationDxe's protocol, before the driver that this is linked into looks for it.

  @param[in] ImageHandle  Not used.
  @param[in] SystemTable  Not used.

  @retval EFI_SUCCESS  Failures will be reported.
  @return Otherwise why the protocol cannot be replaced.
**/
EFI_STATUS
EFIAPI
ReportMmFailureLibConstructor (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_STATUS  Status;
  EFI_HANDLE  *Handles;
  UINTN       Count;
  EFI_EVENT   Event;

  Status = gBS->LocateHandleBuffer (ByProtocol, &gEfiMmCommunication2ProtocolGuid, NULL, &Count, &Handles);
  if (EFI_ERROR (Status)) {
    return Status;
  }

  Status = gBS->HandleProtocol (Handles[0], &gEfiMmCommunication2ProtocolGuid, (VOID **)&mCarrier);
  if (!EFI_ERROR (Status)) {
    Status = gBS->CreateEventEx (
                    EVT_NOTIFY_SIGNAL,
                    TPL_NOTIFY,
                    OnVirtualAddressChange,
                    NULL,
                    &gEfiEventVirtualAddressChangeGuid,
                    &Event
                    );
  }

  if (!EFI_ERROR (Status)) {
    Status = gBS->ReinstallProtocolInterface (Handles[0], &gEfiMmCommunication2ProtocolGuid, mCarrier, &mReporting);
  }

  FreePool (Handles);
  return Status;
}
